"""Requests and replies lost between the sampler and its servers: a retry completes the call.

Every step of the report protocol and of the ack is struck, once before it happened and once after;
the retry, with the same key, must end where an undisturbed call ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from etude_proto.v1 import AckReceipt, DegradedReason, PromptBatch, Receipt, Run
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, frame, parse, problem, query, sampler_app
from support.sampler_app_proxy import FaultProxy, Loss, digest, postgres_proxy, redis_proxy
from support.sampler_app_redis import check_laws
from support.waiting import wait_until
from support.workload import cargo, report_of

COMMIT = b"COMMIT"
KEY = "the-key-of-the-call"


@dataclass(frozen=True, slots=True)
class Frail:
    """A replica whose ways to its servers can break."""

    api: Api
    redis: FaultProxy
    postgres: FaultProxy
    redis_url: str
    database_url: str

    def lose(self, step: str, what: Loss) -> None:
        """Break the way of one step: a script's name, or `commit`."""
        if step == "commit":
            self.postgres.lose(COMMIT, what, after=KEY.encode())
        else:
            self.redis.lose(digest(step), what)

    def struck(self, step: str) -> bool:
        """Whether the fault was met."""
        return (self.postgres if step == "commit" else self.redis).struck.is_set()


@pytest.fixture
async def frail(
    database_url: str, redis_server: RunningServer, short_folder: Path
) -> AsyncIterator[Frail]:
    """A replica behind two fault proxies."""
    async with (
        redis_proxy(redis_server, short_folder) as (redis, redis_url),
        postgres_proxy(database_url, short_folder) as (postgres, postgres_url),
        sampler_app(postgres_url, redis_url) as api,
    ):
        yield Frail(api, redis, postgres, redis_server.url, database_url)


LOSSES: list[Loss] = ["request", "reply"]


@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("step", ["pin", "stage", "commit", "settle"])
async def test_a_report_survives_the_loss_of_each_step(frail: Frail, step: str, what: Loss) -> None:
    run = await frail.api.create_run()
    batch = await frail.api.lease(run.id, 2)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id)
    frail.lose(step, what)
    broken = await frail.api.report(batch, body, key=KEY)
    assert frail.struck(step)
    found = problem(broken, 503, "dependency_unavailable")
    assert found.retryable
    assert int(broken.headers["retry-after"]) >= 1
    receipt = parse(await frail.api.report(batch, body, key=KEY), Receipt)
    again = parse(await frail.api.report(batch, body, key=KEY), Receipt)
    assert again == receipt
    assert receipt.groups[0].gate == "admitted"
    assert query(frail.database_url, "SELECT verdict, count(*) FROM ledger GROUP BY 1") == [
        ("applied", 1)
    ]
    assert query(frail.database_url, "SELECT n FROM task_statistics") == [(1,)]
    counts = await frail.api.counts(run.id)
    assert (counts.num_leased, counts.num_ready_groups) == (1, 1)
    assert counts.cargo_bytes == len(body)
    check_laws(frail.redis_url, run.id, num_tasks=12)


@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("step", ["pin", "commit", "untake", "announce"])
async def test_an_ack_survives_the_loss_of_each_step(frail: Frail, step: str, what: Loss) -> None:
    run = await frail.api.create_run()
    await frail.api.report_cargo(await frail.api.lease(run.id, 4))
    batch = await frail.api.train(run.id)
    frail.lose(step, what)
    problem(await frail.api.ack(batch, 1, key=KEY), 503, "dependency_unavailable")
    assert frail.struck(step)
    receipt = parse(await frail.api.ack(batch, 1, key=KEY), AckReceipt)
    assert (receipt.policy_version, receipt.num_groups) == (1, 4)
    assert query(frail.database_url, "SELECT version FROM policy_versions") == [(1,)]
    counts = await frail.api.counts(run.id)
    assert (counts.num_training_groups, counts.num_ready_groups) == (0, 0)
    assert (await frail.api.lease(run.id, 1)).policy_version == 1
    check_laws(frail.redis_url, run.id, num_tasks=12)


@pytest.mark.parametrize("what", LOSSES)
async def test_a_lease_whose_reply_was_lost_is_found_by_its_key(frail: Frail, what: Loss) -> None:
    run = await frail.api.create_run()
    frail.lose("draw", what)
    problem(await frail.api.try_lease(run.id, 4, key="draw"), 503, "dependency_unavailable")
    batch = parse(await frail.api.try_lease(run.id, 4, key="draw"), PromptBatch)
    assert len(batch.items) == 4
    assert (await frail.api.counts(run.id)).num_leased == 4
    await frail.api.report_cargo(batch)
    frail.lose("take", what)
    problem(await frail.api.try_train(run.id, key="take"), 503, "dependency_unavailable")
    assert len(frame(await frail.api.try_train(run.id, key="take")).manifest.groups) == 4
    assert (await frail.api.counts(run.id)).num_training_groups == 4
    check_laws(frail.redis_url, run.id, num_tasks=12)


@pytest.mark.parametrize("what", LOSSES)
async def test_a_release_repeated_after_a_loss_does_no_harm(frail: Frail, what: Loss) -> None:
    run = await frail.api.create_run()
    batch = await frail.api.lease(run.id, 4)
    assert batch.lease is not None
    path, body = f"/v1/leases/{batch.lease.id}/release", {"fence": batch.lease.fence}
    frail.lose("settle", what)
    problem(await frail.api.post(path, body, key="release"), 503, "dependency_unavailable")
    answer = await frail.api.post(path, body, key="release")
    assert answer.status_code in (200, 409)
    assert (await frail.api.counts(run.id)).num_leased == 0
    check_laws(frail.redis_url, run.id, num_tasks=12)


@pytest.mark.parametrize("what", LOSSES)
async def test_a_pause_that_redis_missed_takes_effect(frail: Frail, what: Loss) -> None:
    run = await frail.api.create_run()
    path = f"/v1/runs/{run.id}"
    for verb, reason in (("pause", DegradedReason.RUN_PAUSED), ("resume", None)):
        frail.lose("configure", what)
        problem(await frail.api.post(f"{path}/{verb}", key=verb), 503, "dependency_unavailable")
        parse(await frail.api.post(f"{path}/{verb}", key=verb), Run)
        batch = parse(await frail.api.try_lease(run.id, 1), PromptBatch)
        assert batch.degraded_reason is reason
    frail.lose("configure", what)
    body = {"limits": {**run.limits.model_dump(), "leases_per_worker": 1}}
    tagged = {"If-Match": '"3"'}
    answer = await frail.api.post(path, body, key="patch", method="PATCH", headers=tagged)
    problem(answer, 503, "dependency_unavailable")

    async def limited() -> bool:
        answer = await frail.api.try_lease(run.id, 1)
        return parse(answer, PromptBatch).degraded_reason is DegradedReason.WORKER_LIMIT

    await wait_until(limited, what="the stored limits reach Redis without a retry")
    answer = await frail.api.post(path, body, key="patch", method="PATCH", headers=tagged)
    assert parse(answer, Run).revision == 4


@pytest.mark.parametrize("server", ["redis", "postgres"])
async def test_an_outage_is_answered_as_one_and_ends(frail: Frail, server: str) -> None:
    run = await frail.api.create_run()
    batch = await frail.api.lease(run.id, 4)
    proxy = frail.redis if server == "redis" else frail.postgres
    proxy.fail()
    for answer in (
        await frail.api.report(batch, report_of(batch), key=KEY),
        await frail.api.try_lease(run.id, 9, key="lease"),
        await frail.api.get(f"/v1/runs/{run.id}/curriculum"),
    ):
        found = problem(answer, 503, "dependency_unavailable")
        assert found.retryable
        assert "retry-after" in answer.headers
    assert (await frail.api.get("/readyz")).status_code == 503
    assert (await frail.api.get("/livez")).status_code == 200
    proxy.mend()
    assert len((await frail.api.reported(batch, key=KEY)).groups) == 4
    assert (await frail.api.get("/readyz")).status_code == 200
    again = parse(await frail.api.try_lease(run.id, 9, key="lease"), PromptBatch)
    assert len(again.items) == (9 if server == "redis" else 8), "drawn before the outage, or after"
    check_laws(frail.redis_url, run.id, num_tasks=12)


async def test_a_run_created_in_an_outage_of_redis_is_one_run(frail: Frail) -> None:
    dataset_id = (await frail.api.create_run()).dataset_id
    frail.redis.fail()
    body = {"name": "one", "dataset_id": dataset_id}
    first = await frail.api.post("/v1/runs", body, key="create")
    assert first.status_code in (201, 503)
    frail.redis.mend()
    run = parse(await frail.api.post("/v1/runs", body, key="create"), Run, 201)
    rows = query(frail.database_url, "SELECT id FROM runs WHERE name = 'one'")
    assert rows == [(run.id,)]

    async def served() -> bool:
        return (await frail.api.try_lease(run.id, 4)).status_code == 200

    await wait_until(served, what="the background loads the run")
