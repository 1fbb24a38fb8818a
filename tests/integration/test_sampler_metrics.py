"""What Prometheus scrapes of a sampler: every run as its curriculum view tells it, and outages."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from etude_proto.v1 import CurriculumView
from etude_sampler.embedded import RunningServer
from etude_sampler.observability.run_metrics import ALL
from etude_sampler.service import watching
from etude_sampler.store.redis.keys import every_key
from support.sampler_app import Api, parse, sampler_app
from support.sampler_app_proxy import redis_proxy
from support.waiting import wait_until
from support.workload import cargo


async def scraped(api: Api) -> dict[str, Metric]:
    """All families of one scrape by name."""
    answer = await api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def values(family: Metric, label: str, **given: str) -> dict[str, float]:
    """Value by one label, of the samples with the given labels."""
    return {
        sample.labels[label]: sample.value
        for sample in family.samples
        if given.items() <= sample.labels.items()
    }


async def test_a_run_is_what_its_view_says(api: Api) -> None:
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    for item in batch.items[:2]:
        answer = await api.report(batch, cargo(batch.lease.fence, item.task.id), key=item.task.id)
        assert answer.status_code == 200
    view = parse(await api.get(f"/v1/runs/{run.id}/curriculum"), CurriculumView)
    found = await scraped(api)
    assert {one.name for one in ALL} <= found.keys()
    assert values(found["etude_run_info"], "name") == {run.name: 1.0}
    counts = view.counts
    assert values(found["etude_run_tasks"], "state") == {
        "waiting": counts.num_waiting,
        "leased": counts.num_leased,
        "parked": 0.0,
    }
    assert counts.num_leased == 2
    ready = values(found["etude_run_ready_groups"], "run")
    assert ready == {run.id: counts.num_ready_groups} == {run.id: 2}
    cap = values(found["etude_run_cap_groups"], "run")[run.id]
    assert values(found["etude_run_wanted_groups"], "run") == {run.id: cap - ready[run.id]}
    shares = values(found["etude_run_lane_share"], "lane")
    assert shares == {lane.name: pytest.approx(lane.share) for lane in view.lanes}
    assert math.isclose(sum(shares.values()), 1.0)
    weights = values(found["etude_run_component_weight"], "subtask")
    assert weights == {one.name: one.component_weight for one in view.subtasks}
    assert [s.value for s in found["etude_dependencies_up"].samples] == [1.0]


async def test_totals_follow_the_versions(api: Api) -> None:
    run = await api.create_run(mode="curriculum_only")
    batch = await api.lease(run.id, 4)
    await api.reported(batch)
    await api.announced(run.id, 1)
    found = await scraped(api)
    assert values(found["etude_run_policy_version"], "run") == {run.id: 1.0}
    assert sum(values(found["etude_run_groups"], "arm").values()) == 4
    informative = values(found["etude_run_informative_groups"], "arm")
    assert 0 <= sum(informative.values()) <= 4
    assert values(found["etude_run_mastery"], "subtask").keys() == set(run.resolved.subtasks)


async def test_a_rebuild_is_seen_and_hides_no_other_run(
    valkey_api: Api, valkey: RunningServer
) -> None:
    api = valkey_api
    lost, kept = await api.create_run(), await api.create_run()
    with Redis.from_url(valkey.url) as redis:
        redis.delete(*redis.keys(every_key(lost.id)))

    async def is_rebuilt() -> bool:
        found = await scraped(api)
        serving = values(found["etude_run_serving"], "run")
        assert serving.keys() == {lost.id, kept.id}
        assert serving[kept.id] == 1.0
        assert kept.id in values(found["etude_run_tasks"], "run", state="waiting")
        epochs = values(found["etude_run_epoch"], "run")
        return epochs == {lost.id: lost.epoch + 1, kept.id: kept.epoch} and serving[lost.id] == 1.0

    await wait_until(is_rebuilt, what="the rebuild is seen")


async def test_an_outage_is_told_beside_what_the_process_counts(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    async with (
        redis_proxy(valkey, short_folder) as (proxy, redis_url),
        sampler_app(database_url, redis_url) as api,
    ):
        await api.create_run()
        proxy.fail()
        found = await scraped(api)
        assert [s.value for s in found["etude_dependencies_up"].samples] == [0.0]
        assert found["etude_http_requests"].samples
        proxy.mend()


async def test_more_runs_than_a_scrape_shows_are_counted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await api.create_run()
    monkeypatch.setattr(watching, "MAX_WATCHED", 2)
    found = await scraped(api)
    assert [s.value for s in found["etude_runs_watched"].samples] == [2.0]
    assert [s.value for s in found["etude_runs_unwatched"].samples] == [1.0]
