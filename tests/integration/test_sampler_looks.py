"""What the dashboard reads: series in few points, pages by key, histograms, what goes on now."""

from __future__ import annotations

import numpy as np
import pytest

from etude_proto.tensors import decode_group
from etude_proto.v1 import (
    Activity,
    CurriculumView,
    Distributions,
    HistoryPage,
    Run,
    Series,
    TaskPage,
    TaskSummary,
)
from etude_sampler.service import exploring
from support.sampler_app import Api, parse, problem
from support.workload import report_of, task


async def pages(api: Api, run_id: str, limit: int = 3, **query: str | int) -> list[TaskSummary]:
    """All items of a list, page by page; no page is longer than asked."""
    found: list[TaskSummary] = []
    more: dict[str, str | int] = {}
    while True:
        answer = await api.get(f"/v1/runs/{run_id}/tasks", limit=limit, **query, **more)
        page = parse(answer, TaskPage)
        assert len(page.items) <= limit
        assert page.num_looked_at is not None
        found += page.items
        if page.next_cursor is None:
            return found
        more = {"cursor": page.next_cursor}


async def announce(api: Api, run_id: str, version: int, **metrics: float) -> None:
    """Announce a version with some of the trainer's figures."""
    body = {"policy_version": version, "metrics": metrics}
    assert (await api.post(f"/v1/runs/{run_id}/policy-versions", body)).status_code == 200


async def practised(api: Api, *, num_tasks: int = 30, versions: int = 3) -> Run:
    """A run of tasks from two sources, some seen, with a version after each batch."""
    made = [task(n, source="even" if n % 2 == 0 else "odd") for n in range(num_tasks)]
    dataset_id = await api.create_dataset("looked-at", tasks=made)
    run = await api.create_run(dataset_id=dataset_id, mode="curriculum_only")
    for version in range(versions):
        batch = await api.lease(run.id, 7)
        await api.reported(batch, report_of(batch, skill=0.2 + 0.3 * version))
        await announce(api, run.id, version + 1, loss=1.0 / (version + 1))
    return run


async def test_lists_by_key_are_whole_and_in_order(valkey_api: Api) -> None:
    api = valkey_api
    run = await practised(api)
    everything = await pages(api, run.id, limit=1000)
    assert [one.ordinal for one in everything] == list(range(30))
    seen = {one.ordinal: one.statistics for one in everything if one.statistics}
    unseen = [one.ordinal for one in everything if one.statistics is None]
    assert seen
    assert unseen
    by_rate = sorted(seen, key=lambda o: (seen[o].success_ema, o))
    by_age = sorted(seen, key=lambda o: (seen[o].last_policy_version, o))
    wanted = {
        ("hardest", ""): by_rate + unseen,
        ("easiest", ""): by_rate[::-1] + unseen,
        ("stalest", ""): by_age + unseen,
        ("unseen", ""): unseen + by_age,
        ("hardest", "seen"): by_rate,
        ("ordinal", "unseen"): unseen,
        ("ordinal", "parked"): [],
    }
    for (order, only), ordinals in wanted.items():
        more = {"only": only} if only else {}
        for limit in (1, 4, 1000):
            found = await pages(api, run.id, limit=limit, order=order, **more)
            assert [one.ordinal for one in found] == ordinals, (order, only, limit)
    odd = await pages(api, run.id, order="hardest", source="odd", subtask="tool_name")
    assert [one.ordinal for one in odd] == [
        o for o in by_rate + unseen if o % 2 == 1 and "tool_name" in everything[o].subtasks
    ]


async def test_a_search_finds_ids_numbers_and_words(valkey_api: Api) -> None:
    api = valkey_api
    run = await practised(api, num_tasks=25, versions=1)
    everything = await pages(api, run.id, limit=1000)
    one = everything[17]
    assert await pages(api, run.id, q=one.id) == [one]
    start = one.id[:6]
    assert {found.id for found in await pages(api, run.id, q=start, limit=2)} == {
        found.id for found in everything if found.id.startswith(start)
    }
    assert await pages(api, run.id, q="#17") == [one]
    assert await pages(api, run.id, q="#99999999999") == []
    words = await pages(api, run.id, q="QUESTION 1", order="ordinal")
    assert [found.ordinal for found in words] == [1, *range(10, 20)]
    assert {f.ordinal for f in await pages(api, run.id, q="question 1", order="hardest")} == {
        found.ordinal for found in words
    }
    assert await pages(api, run.id, q='50%_\\" of nothing') == []


async def test_a_call_looks_at_a_bounded_number_of_tasks(
    valkey_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = valkey_api
    run = await practised(api)
    monkeypatch.setattr(exploring, "MOST_LOOKED_AT", 10)
    first = parse(await api.get(f"/v1/runs/{run.id}/tasks", limit=2, source="nowhere"), TaskPage)
    assert (first.items, first.num_looked_at) == ([], 10)
    assert first.next_cursor is not None, "an empty page is not the end"
    assert await pages(api, run.id, source="nowhere") == []
    assert len(await pages(api, run.id, source="odd", order="easiest")) == 15
    path = f"/v1/runs/{run.id}/tasks"
    cursor = first.next_cursor
    problem(await api.get(path, source="odd", cursor=cursor), 410, "cursor_expired")
    problem(await api.get(path, only="everything"), 422, "payload_invalid")


async def test_the_most_improved_are_those_whose_averages_rose(valkey_api: Api) -> None:
    api = valkey_api
    made = [task(n, subtasks=["format"]) for n in range(8)]
    dataset_id = await api.create_dataset("improving", tasks=made)
    run = await api.create_run(dataset_id=dataset_id, mode="curriculum_only")
    for version, better in enumerate((0.0, 0.0, 1.0, 1.0)):
        batch = await api.lease(run.id, 8)
        report = report_of(batch, skill=0.0)
        for given, item in zip(report.groups, batch.items, strict=True):
            right = better if item.task.ordinal in (2, 5) else 0.0
            for at, one in enumerate(given.attempts[0].outcomes):
                wins = item.task.ordinal == 5 or at % 2 == 0
                one.components["format"] = right if wins else 0.0
        await api.reported(batch, report)
        await api.announced(run.id, version + 1)
    found = await pages(api, run.id, order="improved", limit=1)
    assert [one.ordinal for one in found] == [5, 2], "a whole group rose more than a half of one"
    averages = [one.statistics.component_means["format"] for one in found if one.statistics]
    assert [one.gain for one in found] == pytest.approx(averages), "they began at 0"


async def test_series_hold_every_version_in_few_points(valkey_api: Api) -> None:
    api = valkey_api
    run = await practised(api, versions=4)
    for version in range(5, 36):
        await announce(api, run.id, version, loss=1.0 / version, kl=0.5)
    history = parse(await api.get(f"/v1/runs/{run.id}/history", limit=1000), HistoryPage).items
    path = f"/v1/runs/{run.id}/series"
    fine = parse(await api.get(path, points=100), Series)
    assert (fine.every, fine.versions) == (1, [point.policy_version for point in history])
    assert fine.num_groups == [point.num_groups for point in history]
    assert {line.name for line in fine.mastery} == set(history[-1].mastery)
    for line in fine.mastery:
        want = [point.mastery.get(line.name) for point in history]
        assert line.values == pytest.approx(want, rel=1e-5)
        assert line.low is not None
        assert line.high is not None
        errors = [(p.mastery_error or {}).get(line.name) for p in history]
        assert any(error for error in errors), "there is a band"
        for value, low, high, error in zip(line.values, line.low, line.high, errors, strict=True):
            if error is not None and value is not None:
                assert (low, high) == pytest.approx(
                    (value - 1.959964 * error, value + 1.959964 * error), rel=1e-4, abs=1e-5
                )
    coarse = parse(await api.get(path, points=10, figure="loss"), Series)
    assert coarse.every == 5
    assert coarse.versions == [4, 9, 14, 19, 24, 29, 34, 35]
    assert sum(coarse.num_groups) == sum(fine.num_groups) == 28
    assert (coarse.figures, coarse.figure is not None) == (["kl", "loss"], True)
    assert coarse.figure is not None
    assert coarse.figure.low is not None
    assert coarse.figure.high is not None
    assert (coarse.figure.low[1], coarse.figure.high[1]) == pytest.approx((1 / 9, 1 / 5), rel=1e-5)
    assert coarse.success.values[0] == pytest.approx(
        np.average([p.success_rate or 0.0 for p in history[:4]], weights=fine.num_groups[:4]),
        rel=1e-4,
    )
    lanes = np.array([line.values for line in fine.lane_groups], dtype=float)[:, :4]
    assert lanes.sum(axis=0) == pytest.approx(np.ones(4))
    arms = {line.name: line for line in coarse.arms}
    view = parse(await api.get(f"/v1/runs/{run.id}/curriculum"), CurriculumView)
    assert view.arms_overall is not None
    whole = view.arms_overall.curriculum.success_rate
    shown = arms["curriculum.success_rate"]
    assert shown.low is not None
    assert (shown.values[0], shown.low[0]) == pytest.approx((whole.mean, whole.low), rel=1e-4)
    await api.announced(run.id, 36)
    assert parse(await api.get(path, points=10), Series).versions[-1] == 36


async def test_series_forget_what_a_restore_discards(valkey_api: Api) -> None:
    api = valkey_api
    run = await practised(api, versions=1)
    taken = await api.post(f"/v1/runs/{run.id}/checkpoints", {"policy_version": 1})
    for version in (2, 3):
        await announce(api, run.id, version, loss=9.0)
    path = f"/v1/runs/{run.id}/series"
    assert parse(await api.get(path), Series).versions == [1, 2, 3]
    body = {"checkpoint_id": taken.json()["id"]}
    assert (await api.post(f"/v1/runs/{run.id}/restore", body)).status_code == 200
    await api.loaded(run.id)
    assert parse(await api.get(path), Series).versions == [1]
    await announce(api, run.id, 2, loss=5.0)
    again = parse(await api.get(path, figure="loss"), Series)
    assert (again.versions, again.figure and again.figure.values) == ([1, 2], [1.0, 5.0])


async def test_distributions_count_every_task_of_a_small_run(valkey_api: Api) -> None:
    api = valkey_api
    run = await practised(api)
    found = parse(await api.get(f"/v1/runs/{run.id}/distributions"), Distributions)
    everything = await pages(api, run.id, limit=1000)
    seen = [one.statistics for one in everything if one.statistics]
    assert (found.num_tasks, found.num_sampled, found.num_seen) == (30, 30, len(seen))
    rates = [one.success_ema for one in seen]
    assert found.success.counts == np.histogram(rates, bins=found.success.edges)[0].tolist()
    visits = [one.num_groups for one in seen]
    assert found.visits.counts == np.histogram(visits, bins=found.visits.edges)[0].tolist()
    standing = {
        name: sum(name in one.subtasks for one in everything) for name in run.resolved.lanes
    }
    for lane in found.weights:
        assert sum(lane.counts) == standing[lane.name], lane.name
        assert len(lane.edges) == len(lane.counts) + 1
        assert lane.edges == sorted(lane.edges)


async def test_activity_shows_leases_workers_and_the_ready_queue(api: Api) -> None:
    run = await api.create_run(num_tasks=12)
    path = f"/v1/runs/{run.id}/activity"
    first = await api.lease(run.id, 4, worker="anna")
    await api.lease(run.id, 2, worker="bert", ttl_s=300)
    await api.report_cargo(first)
    second = await api.lease(run.id, 3, worker="anna")
    found = parse(await api.get(path), Activity)
    assert [(one.staleness, one.num_groups) for one in found.ready] == [(0, 4)]
    assert [(one.worker, one.num_leases, one.num_left) for one in found.workers] == [
        ("anna", 1, 3),
        ("bert", 1, 2),
    ]
    assert (found.num_leases, found.num_workers) == (2, 2)
    mine = next(one for one in found.leases if second.lease and one.id == second.lease.id)
    assert (mine.kind, mine.worker, mine.is_extended, mine.policy_version) == (
        "prompt",
        "anna",
        False,
        0,
    )
    assert 0 < mine.remaining_ms <= mine.ttl_ms
    frame = await api.train(run.id, num_groups=4)
    training = parse(await api.get(path), Activity)
    assert [one.num_groups for one in training.ready] == [0]
    kinds = sorted(
        (one.kind, one.worker, one.num_left) for one in training.leases if not one.worker
    )
    assert kinds == [("training", None, 4)]
    await api.ack(frame, version=1)
    later = parse(await api.get(path), Activity)
    assert (later.policy_version, len(later.version_times)) == (1, 1)


async def test_trajectories_are_forwarded_while_they_wait(valkey_api: Api) -> None:
    api = valkey_api
    run = await api.create_run(num_tasks=6)
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    await api.report_cargo(batch)
    task_id = batch.items[0].task.id
    base = f"/v1/runs/{run.id}/tasks/{task_id}/trajectories"
    answer = await api.get(f"{base}/{batch.lease.id}")
    group, report = decode_group(answer.content)
    assert (group.num_rollouts, report.groups[0].task_id) == (4, task_id)
    problem(await api.get(f"{base}/lease_other"), 404, "not_found")
    missing = f"/v1/runs/{run.id}/tasks/task_no/trajectories/{batch.lease.id}"
    problem(await api.get(missing), 404, "task_not_found")
    await api.ack(await api.train(run.id, num_groups=4), version=1)
    problem(await api.get(f"{base}/{batch.lease.id}"), 404, "not_found")


async def test_who_has_an_answer_already_is_told_so(valkey_api: Api) -> None:
    api = valkey_api
    run = await practised(api, versions=1)
    for name in ("curriculum", "series", "distributions", "tasks"):
        path = f"/v1/runs/{run.id}/{name}"
        first = await api.get(path)
        tag = first.headers["etag"]
        again = await api.http.get(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), name
        other = await api.http.get(path, headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)
    await api.announced(run.id, 2)
    assert (await api.get(f"/v1/runs/{run.id}/series")).headers["etag"] != tag
