"""Redis comes back a little older: the same server after a failover and back, and a cut-off log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from etude_proto.v1 import PromptBatch, Run
from etude_sampler.embedded import RunningServer, start_redis
from etude_sampler.embedded.binaries import Flavour
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws, read_hot
from support.sampler_app_replica import free_port
from support.waiting import wait_for, wait_until
from support.workload_model import check_run

LOST_BYTES = 20_000
"""How much of the append-only file a crash takes along: some dozens of calls."""


@contextmanager
def listening(folder: Path, flavour: Flavour) -> Iterator[tuple[RunningServer, int]]:
    """A server that others can follow, and its port."""
    server, port = start_redis(folder, durable=False, flavour=flavour), free_port()
    try:
        with Redis.from_url(server.url) as redis:
            redis.config_set("port", port)
            redis.config_set("repl-diskless-sync-delay", 0)
        yield server, port
    finally:
        server.stop()


def copy(server: RunningServer, port: int) -> None:
    """Make a server a copy of the one on a port, and a primary again."""
    with Redis.from_url(server.url) as redis:
        redis.replicaof("127.0.0.1", str(port))
        wait_for(
            lambda: redis.info("replication").get("master_link_status") == "up",
            what="the copy is complete",
        )
        redis.replicaof("NO", "ONE")


async def until_drained(database_url: str, redis_url: str, run: Run) -> None:
    """Wait until PostgreSQL knows every decision that Redis has logged."""

    async def drained() -> bool:
        logged = read_hot(redis_url, run.id).count("log_number")
        return query(database_url, "SELECT max(number) FROM decisions") == [(logged,)]

    await wait_until(drained, what="all decisions are drained")


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_the_same_server_with_its_own_past_is_noticed(
    flavour: Flavour, database_url: str, short_folder: Path
) -> None:
    """A failover to a lagging replica and back: same process, same epoch, older lanes."""
    with (
        listening(short_folder / "a", flavour) as (server, port),
        listening(short_folder / "b", flavour) as (other, other_port),
    ):
        async with sampler_app(database_url, server.url) as api:
            run = await api.create_run(num_tasks=12, mode="curriculum_only")
            await api.reported(await api.lease(run.id, 4))
            await asyncio.to_thread(copy, other, port)
            held = await api.lease(run.id, 3, ttl_s=60)
            await api.reported(await api.lease(run.id, 4))
            await until_drained(database_url, server.url, run)
            await asyncio.to_thread(copy, server, other_port)

            async def rebuilt() -> bool:
                shown = parse(await api.get(f"/v1/runs/{run.id}"), Run)
                assert shown.last_rebuild is not None
                return shown.loading is None and shown.last_rebuild.reason == "rewound"

            await wait_until(rebuilt, what="the run is rebuilt", timeout_s=20.0)
            check_laws(server.url, run.id, num_tasks=12)
            check_run(database_url, server.url, run)
            problem(await api.report(held), 409, "lease_superseded")
            again = await api.lease(run.id, 12)
            assert len(again.items) == 12
            await api.reported(again)
            check_run(database_url, server.url, run)


class Crashing:
    """A durable server (`appendfsync everysec`) that dies and loses the end of its log."""

    def __init__(self, folder: Path, flavour: Flavour) -> None:
        self._folder, self._flavour = folder / flavour, flavour
        self.server = self.start()

    def start(self) -> RunningServer:
        """Start it on what is there."""
        return start_redis(
            self._folder, durable=True, flavour=self._flavour, appendfsync="everysec"
        )

    def crash(self) -> None:
        """`kill -9`, as if the machine had died within the second that was not yet on disk."""
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait(10)
        self.server.stop()
        (log,) = (self._folder / "appendonlydir").glob("*.incr.aof")
        os.truncate(log, max(0, log.stat().st_size - LOST_BYTES))
        self.server = self.start()


async def work(api: Api, run_id: str, number: int, taken: list[str], stop: asyncio.Event) -> None:
    """Lease and report until told to stop; receipts that were acknowledged go to `taken`."""
    turn = 0
    while not stop.is_set():
        turn += 1
        answer = await api.try_lease(run_id, 2, worker=f"w{number}", ttl_s=2.0, wait_s=0.2)
        if answer.status_code != 200:
            assert problem(answer, 503, answer.json()["code"]).retryable
            continue
        batch = parse(answer, PromptBatch)
        if batch.lease is None:
            continue
        for _ in range(200):
            answer = await api.report(batch, key=f"{number}-{turn}")
            if answer.status_code != 503:
                break
            await asyncio.wait([asyncio.create_task(stop.wait())], timeout=0.05)
        if answer.status_code == 200:
            taken.append(answer.json()["id"])


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_a_crash_that_loses_the_last_second_loses_no_report(
    flavour: Flavour, database_url: str, short_folder: Path
) -> None:
    redis = Crashing(short_folder, flavour)
    try:
        url = redis.server.url
        async with sampler_app(database_url, url) as first, sampler_app(database_url, url) as other:
            run = await first.create_run(
                num_tasks=40, mode="curriculum_only", limits={"cap_groups": 64}
            )
            taken: list[str] = []
            stop = asyncio.Event()
            workers = [
                asyncio.create_task(work((first, other)[i % 2], run.id, i, taken, stop))
                for i in range(6)
            ]

            async def more_than(num: int) -> bool:
                return len(taken) > num

            try:
                for _ in range(2):
                    seen = len(taken)
                    await wait_until(partial(more_than, seen + 30), what="work goes on")
                    redis.crash()
                seen = len(taken)
                await wait_until(lambda: more_than(seen + 10), what="work goes on", timeout_s=30)
            finally:
                stop.set()
                await asyncio.gather(*workers)

            async def all_back() -> bool:
                with contextlib.suppress(AssertionError):
                    return (await first.counts(run.id)).num_leased == 0
                return False

            await wait_until(all_back, what="the last leases end", timeout_s=20.0)
            check_laws(url, run.id, num_tasks=40)
            check_run(database_url, url, run)
            sql = "SELECT convert_from(response, 'UTF8')::jsonb ->> 'id' FROM receipts"
            kept = {str(row[0]) for row in query(database_url, sql)}
            assert len(taken) == len(set(taken)), "no receipt was given twice"
            assert set(taken) <= kept, "what was acknowledged is there"
            applied = query(database_url, "SELECT count(*) FROM ledger WHERE verdict = 'applied'")
            assert applied == [(2 * len(kept),)]
            assert query(database_url, "SELECT epoch FROM runs") >= [(run.epoch + 2,)]
    finally:
        redis.server.stop()
