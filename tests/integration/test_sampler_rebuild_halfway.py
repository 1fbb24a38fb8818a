"""Rebuilds that do not get through: killed, emptied, overtaken, unheard; invariant 5."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from etude_proto.v1 import Run
from etude_sampler.embedded import RunningServer, start_redis
from etude_sampler.embedded.binaries import Flavour
from support.sampler_app import Api, problem, query, sampler_app
from support.sampler_app_proxy import FaultProxy, digest, redis_proxy
from support.sampler_app_redis import check_laws
from support.sampler_app_replica import replica
from support.waiting import wait_until
from support.workload import task
from support.workload_model import check_run

HALF = b"\r\ntasks\r\n"
"""In the load of the records: the lanes are there."""
NUM_TASKS = 24


@dataclass(frozen=True, slots=True)
class Own:
    """A Redis server of a test's own behind a proxy, and a run with reports behind it."""

    server: RunningServer
    proxy: FaultProxy
    proxy_url: str
    database_url: str
    run: Run
    boundaries: list[int]

    def flush(self) -> None:
        """Lose everything."""
        with Redis.from_url(self.server.url) as redis:
            redis.flushall()

    async def half(self) -> None:
        """Wait until a rebuild is held half-way."""
        await asyncio.wait_for(self.proxy.struck.wait(), 20.0)

    async def served(self, api: Api, *, epochs: int) -> None:
        """Wait until the run is served, `epochs` later, and all of it is as it was."""

        async def leased() -> bool:
            answer = await api.try_lease(self.run.id, 2)
            if answer.status_code != 200:
                assert problem(answer, 503, answer.json()["code"]).retryable
            return answer.status_code == 200

        await wait_until(leased, what="the run is served again", timeout_s=30.0)
        assert query(self.database_url, "SELECT epoch FROM runs") == [(self.run.epoch + epochs,)]
        check_laws(self.server.url, self.run.id, num_tasks=NUM_TASKS)
        check_run(self.database_url, self.server.url, self.run, boundaries=self.boundaries)
        with Redis.from_url(self.server.url) as redis:
            assert not redis.exists(f"etude:{{{self.run.id}}}:loading")


@asynccontextmanager
async def own_redis(
    database_url: str, folder: Path, flavour: Flavour = "valkey"
) -> AsyncIterator[Own]:
    """The server dies with the test."""
    server = start_redis(folder / flavour, durable=False, flavour=flavour)
    try:
        async with sampler_app(database_url, server.url) as api:
            run = await api.create_run(num_tasks=NUM_TASKS, mode="curriculum_only")
            for _ in range(3):
                await api.reported(await api.lease(run.id, 5))
            await api.announced(run.id, 1)
            await api.reported(await api.lease(run.id, 5))
        ((last,),) = query(database_url, "SELECT folded_seq FROM runs")
        async with redis_proxy(server, folder) as (proxy, proxy_url):
            yield Own(server, proxy, proxy_url, database_url, run, [int(str(last))])
    finally:
        server.stop()


@pytest.fixture
async def own(database_url: str, short_folder: Path) -> AsyncIterator[Own]:
    """On Valkey."""
    async with own_redis(database_url, short_folder) as made:
        yield made


async def test_a_replica_killed_in_mid_rebuild_is_replaced(own: Own, short_folder: Path) -> None:
    log = short_folder / "replica.log"
    async with replica(own.database_url, own.proxy_url, log=log) as victim:
        own.proxy.hold(HALF)
        own.flush()
        await own.half()
        async with sampler_app(own.database_url, own.server.url) as survivor:
            run_id = own.run.id
            problem(await survivor.try_lease(run_id), 503, "rebuilding")
            view = await survivor.view(run_id)
            assert view.loading is not None
            assert view.loading.num_tasks == NUM_TASKS
            victim.kill()
            await own.served(survivor, epochs=1)


async def test_redis_emptied_in_mid_rebuild_is_rebuilt_from_the_start(own: Own) -> None:
    own.proxy.hold(HALF)
    own.flush()
    async with sampler_app(own.database_url, own.proxy_url) as api:
        await own.half()
        own.flush()
        own.proxy.let_go()
        await own.served(api, epochs=1)


async def test_a_loader_that_lost_its_lock_is_shut_out(own: Own) -> None:
    """Two replicas that both believe they rebuild: Redis takes the loads of the later one only."""
    own.proxy.hold(HALF)
    own.flush()
    async with sampler_app(own.database_url, own.proxy_url) as first:
        await own.half()
        async with sampler_app(own.database_url, own.server.url) as second:
            locks = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
            ended = f"SELECT count(pg_terminate_backend(pid)) FROM ({locks}) AS held"

            async def lock_lost() -> bool:
                query(own.database_url, ended)
                return (await second.try_lease(own.run.id, 2)).status_code == 200

            await wait_until(lock_lost, what="the second replica has rebuilt", timeout_s=20.0)
            own.proxy.let_go()
            await own.served(second, epochs=1)
            await own.served(first, epochs=1)


async def test_a_lost_answer_to_the_last_step_rebuilds_nothing_twice(own: Own) -> None:
    own.proxy.lose(digest("open"), "reply")
    own.flush()
    async with sampler_app(own.database_url, own.proxy_url) as api:
        await own.served(api, epochs=1)
        assert own.proxy.struck.is_set()


async def test_an_epoch_raised_in_mid_rebuild_is_loaded_instead(own: Own) -> None:
    """As a restore does: what was read before it must not be served after it."""
    own.proxy.hold(HALF)
    own.flush()
    async with sampler_app(own.database_url, own.proxy_url) as api:
        await own.half()
        query(own.database_url, "UPDATE runs SET epoch = epoch + 1 RETURNING epoch")
        own.proxy.let_go()
        await own.served(api, epochs=3)


async def test_two_replicas_that_start_at_once_rebuild_once(own: Own) -> None:
    own.flush()
    async with (
        sampler_app(own.database_url, own.server.url) as first,
        sampler_app(own.database_url, own.server.url) as second,
    ):
        await asyncio.gather(own.served(first, epochs=1), own.served(second, epochs=1))


async def test_reports_during_a_rebuild_are_refused_or_counted_once(own: Own) -> None:
    async with sampler_app(own.database_url, own.proxy_url) as api:
        batches = [await api.lease(own.run.id, 2, worker=f"w{i}") for i in range(5)]
        ((before,),) = query(own.database_url, "SELECT count(*) FROM ledger")
        own.proxy.hold(HALF)
        own.flush()
        reports = [
            asyncio.create_task(api.report(batch, key=f"k{i}")) for i, batch in enumerate(batches)
        ]
        await own.half()
        answers = await asyncio.gather(*reports)
        assert {answer.status_code for answer in answers} <= {200, 409, 503}
        own.proxy.let_go()
        await own.served(api, epochs=1)
        again = [await api.report(batch, key=f"k{i}") for i, batch in enumerate(batches)]
        for earlier, later in zip(answers, again, strict=True):
            assert later.status_code in (200, 409)
            if earlier.status_code == 200:
                assert later.content == earlier.content
        counted = sum(answer.status_code == 200 for answer in again)
        sql = "SELECT count(*) FROM ledger WHERE verdict = 'applied'"
        ((after,),) = query(own.database_url, sql)
        assert int(str(after)) == int(str(before)) + 2 * counted
        check_run(own.database_url, own.server.url, own.run, boundaries=own.boundaries)


async def test_tasks_imported_later_do_not_join_a_run(own: Own) -> None:
    async with sampler_app(own.database_url, own.server.url) as api:
        more = b"".join(task(n).model_dump_json().encode() + b"\n" for n in range(100, 110))
        assert (await api.upload(own.run.dataset_id, more)).status_code == 200
        own.flush()
        await own.served(api, epochs=1)
        assert (await api.counts(own.run.id)).num_tasks == NUM_TASKS


async def test_a_rebuild_by_hand_says_what_it_did(own: Own) -> None:
    async with sampler_app(own.database_url, own.server.url) as api:
        path = f"/v1/runs/{own.run.id}/rebuild"
        first = await api.post(path, key="once")
        again = await api.post(path, key="once")
        assert (first.status_code, again.content) == (200, first.content)
        other = await api.post(path)
        assert first.json()["reason"] == "asked"
        assert first.json()["num_tasks"] == NUM_TASKS
        assert first.json()["num_tasks_seen"] > 0
        assert other.json()["statistics_digest"] == first.json()["statistics_digest"]
        await own.served(api, epochs=2)
        await api.reported(await api.lease(own.run.id, 2))
        third = await api.post(path)
        assert third.json()["statistics_digest"] != first.json()["statistics_digest"]
        problem(await api.post("/v1/runs/run_0123456789ab/rebuild"), 404, "run_not_found")
