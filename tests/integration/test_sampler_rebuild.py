"""Redis is rebuildable: emptied or replaced, it comes back from PostgreSQL alone; invariant 5."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from etude_proto.v1 import PromptBatch, Run
from etude_sampler.embedded import RunningServer, start_redis
from etude_sampler.embedded.binaries import Flavour
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws, read_hot
from support.waiting import wait_until
from support.workload import report_of
from support.workload_model import check_run


@dataclass(frozen=True, slots=True)
class Own:
    """Two replicas with a Redis server of their own, which a test may empty."""

    first: Api
    second: Api
    server: RunningServer
    database_url: str

    def flush(self) -> None:
        """Lose everything, scripts included."""
        with Redis.from_url(self.server.url) as redis:
            redis.flushall()
            redis.script_flush()

    async def back(self, run_id: str, epoch: int) -> None:
        """Wait until the run is served at an epoch."""

        async def served() -> bool:
            hot = read_hot(self.server.url, run_id)
            return "meta" in hot.hashes and hot.epoch == epoch

        await wait_until(served, what=f"the run is rebuilt at epoch {epoch}")


@pytest.fixture(params=["valkey", "redis"])
async def own(
    request: pytest.FixtureRequest, database_url: str, short_folder: Path
) -> AsyncIterator[Own]:
    """Both flavours; the server dies with the test."""
    flavour: Flavour = request.param
    server = start_redis(short_folder / flavour, durable=False, flavour=flavour)
    try:
        async with (
            sampler_app(database_url, server.url) as first,
            sampler_app(database_url, server.url) as second,
        ):
            yield Own(first, second, server, database_url)
    finally:
        server.stop()


async def history(own: Own, **spec: object) -> tuple[Run, list[int]]:
    """A curriculum-only run with two versions of reports behind it."""
    run = await own.first.create_run(num_tasks=24, mode="curriculum_only", **spec)
    boundaries = []
    for version in range(1, 6):
        if version < 3:
            for _ in range(3):
                await own.first.reported(await own.first.lease(run.id, 5))
        ((last,),) = query(own.database_url, "SELECT max(apply_seq) FROM ledger")
        boundaries.append(int(str(last)))
        await own.first.announced(run.id, version)
    return run, boundaries


async def test_invariant_5_rebuildable_emptied_it_comes_back_as_it_was(own: Own) -> None:
    run, boundaries = await history(own)
    before = check_laws(own.server.url, run.id, num_tasks=24)
    stats = check_run(own.database_url, own.server.url, run, boundaries=boundaries)
    held = await own.first.lease(run.id, 4)
    assert held.lease is not None
    own.flush()
    for answer in (
        await own.second.try_lease(run.id, 4),
        await own.first.report(held, key="late"),
        await own.second.post(f"/v1/leases/{held.lease.id}/extend", {"fence": held.lease.fence}),
    ):
        if answer.status_code == 503:
            found = problem(answer, 503, "rebuilding")
            assert found.retryable
            assert int(answer.headers["retry-after"]) >= 1
    await own.back(run.id, run.epoch + 1)
    after = check_laws(own.server.url, run.id, num_tasks=24)
    again = check_run(own.database_url, own.server.url, run, boundaries=boundaries)
    assert again.statistics.keys() == stats.statistics.keys()
    assert after.packed("totals") == before.packed("totals")
    assert after.packed("shares") == before.packed("shares")
    assert (after.count("version"), after.leased()) == (5, {})
    problem(await own.first.report(held, key="late"), 409, "lease_superseded")
    fresh = await own.second.lease(run.id, 24)
    assert fresh.lease is not None
    assert fresh.lease.fence >> 36 == run.epoch + 1
    assert fresh.lease.fence > held.lease.fence
    entries = {item.task.id: item.entry for item in held.items}
    assert all(item.entry > entries.get(item.task.id, 0) for item in fresh.items)
    assert (await own.first.reported(fresh)).num_remaining == 0


async def test_hot_paths_say_that_a_rebuild_is_under_way(own: Own) -> None:
    """While another replica holds the rebuild lock nothing is served, and all say when to retry."""
    run = await own.first.create_run(num_tasks=12)
    batch = await own.first.lease(run.id, 4)
    assert batch.lease is not None
    lock = f"rebuild:{run.id}"
    with psycopg.connect(own.database_url.replace("+asyncpg", "", 1)) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (lock,))
        own.flush()
        fence = {"fence": batch.lease.fence}
        for answer in (
            await own.first.try_lease(run.id, 4),
            await own.second.try_train(run.id),
            await own.second.report(batch),
            await own.first.post(f"/v1/leases/{batch.lease.id}/extend", fence),
            await own.first.post(f"/v1/leases/{batch.lease.id}/release", fence),
        ):
            found = problem(answer, 503, "rebuilding")
            assert found.retryable
            assert answer.headers["retry-after"] == "1"
        assert (await own.first.get("/readyz")).status_code == 200
        shown = parse(await own.second.get(f"/v1/runs/{run.id}"), Run)
        assert shown.loading is not None
        view = await own.second.view(run.id)
        assert view.loading is not None
        assert (view.counts.num_parked, view.parked_share) == (12, 1.0)
        assert sum(lane.share for lane in view.lanes) == pytest.approx(1.0)
        assert (await own.first.task(run.id, batch.items[0].task.id)).state == "parked"
        for path in ("history", "tasks"):
            assert (await own.first.get(f"/v1/runs/{run.id}/{path}")).status_code == 200
        for path in ("pause", "resume"):
            assert (await own.first.post(f"/v1/runs/{run.id}/{path}")).status_code == 200
    await own.back(run.id, 2)
    assert len((await own.first.lease(run.id, 12)).items) == 12
    shown = parse(await own.second.get(f"/v1/runs/{run.id}"), Run)
    assert shown.loading is None
    assert shown.last_rebuild is not None
    assert (shown.last_rebuild.reason, shown.last_rebuild.epoch) == ("missing", 2)


async def test_many_calls_on_two_replicas_rebuild_once(own: Own) -> None:
    run = await own.first.create_run(num_tasks=24)
    own.flush()
    apis = (own.first, own.second)
    calls = [apis[i % 2].try_lease(run.id, 2, worker=f"w{i}") for i in range(20)]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} <= {200, 503}
    await own.back(run.id, 2)

    async def served(number: int) -> PromptBatch:
        while True:
            answer = await apis[number % 2].try_lease(run.id, 1, worker=f"v{number}")
            if answer.status_code == 200:
                return parse(answer, PromptBatch)

    await asyncio.gather(*(served(number) for number in range(6)))
    assert query(own.database_url, "SELECT epoch FROM runs") == [(2,)]
    check_laws(own.server.url, run.id, num_tasks=24)


async def test_trajectories_are_lost_and_their_tasks_come_round_again(own: Own) -> None:
    run = await own.first.create_run(num_tasks=8)
    await own.first.report_cargo(await own.first.lease(run.id, 8))
    training = await own.first.train(run.id)
    own.flush()
    await own.back(run.id, 2)
    answer = await own.second.ack(training, 1)
    problem(answer, 409, "lease_superseded")
    counts = await own.first.counts(run.id)
    assert (counts.num_ready_groups, counts.num_training_groups, counts.cargo_bytes) == (0, 0, 0)
    assert (await own.first.view(run.id)).num_groups_applied == 8, "what was reported counts"
    await own.first.report_cargo(await own.first.lease(run.id, 8))
    receipt = await own.second.acked(await own.second.train(run.id), 1)
    assert receipt.num_groups == 16


async def test_a_retry_after_the_loss_finds_its_receipt(own: Own) -> None:
    run = await own.first.create_run(num_tasks=8)
    batch = await own.first.lease(run.id, 4)
    first = await own.first.report(batch, key="once")
    own.flush()
    await own.back(run.id, 2)
    again = await own.second.report(batch, key="once")
    assert (again.status_code, again.content) == (200, first.content)
    assert query(own.database_url, "SELECT verdict, count(*) FROM ledger GROUP BY 1") == [
        ("applied", 4)
    ]


async def test_a_report_in_flight_is_in_the_rebuild_or_late(own: Own) -> None:
    """Redis is lost while a report waits for PostgreSQL: weights and statistics still agree."""
    run, boundaries = await history(own)
    batch = await own.first.lease(run.id, 5)
    with psycopg.connect(own.database_url.replace("+asyncpg", "", 1)) as other:
        other.execute("LOCK TABLE receipts IN EXCLUSIVE MODE")
        report = asyncio.create_task(own.first.report(batch, report_of(batch, skill=0.9)))

        def num_blocked() -> int:
            sql = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            ((num,),) = query(own.database_url, sql)
            return int(str(num))

        async def report_blocked() -> bool:
            return num_blocked() == 1

        async def rebuild_begun() -> bool:
            hot = read_hot(own.server.url, run.id)
            return num_blocked() == 2 or ("meta" in hot.hashes and hot.epoch == run.epoch + 1)

        await wait_until(report_blocked, what="the report waits for the table")
        own.flush()
        await wait_until(rebuild_begun, what="the rebuild is done, or waits for the report")
    assert (await report).status_code in (200, 409, 503)
    await own.back(run.id, 2)

    async def agrees() -> bool:
        check_run(own.database_url, own.server.url, run, boundaries=boundaries)
        return True

    await wait_until(agrees, what="all agree")
    check_laws(own.server.url, run.id, num_tasks=24)


async def test_a_run_is_served_as_soon_as_it_is_created(own: Own) -> None:
    """Even if another replica got to load it first: the creation waits for that."""
    dataset_id = (await own.first.create_run()).dataset_id
    body, key = {"name": "other", "dataset_id": dataset_id}, "create"
    data = json.dumps(body, separators=(",", ":")).encode()
    hashed = hashlib.sha256(b"POST /v1/runs\n" + data).hexdigest()
    run_id = "run_" + hashlib.sha256(f"{key} {hashed}".encode()).hexdigest()[:12]
    with psycopg.connect(own.database_url.replace("+asyncpg", "", 1)) as other:
        lock = (f"rebuild:{run_id}",)
        other.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", lock)
        creation = asyncio.create_task(own.first.post("/v1/runs", data, key=key))

        async def stored() -> bool:
            return query(own.database_url, "SELECT 1 FROM runs WHERE id = %s", run_id) != []

        await wait_until(stored, what="the run is stored")
        assert not creation.done()
    run = parse(await creation, Run, 201)
    assert run.id == run_id
    assert (await own.second.try_lease(run.id, 4)).status_code == 200
    assert read_hot(own.server.url, run.id).epoch == run.epoch
