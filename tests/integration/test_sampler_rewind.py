"""Redis comes back older than it was, as after a failover: noticed before anything is served."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from etude_proto.v1 import PromptBatch
from etude_sampler.embedded import RunningServer, start_redis
from etude_sampler.embedded.binaries import Flavour
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws
from support.waiting import wait_until
from support.workload_model import check_run


class Rewindable:
    """A server that can be killed and started again from the copy that it saved last."""

    def __init__(self, folder: Path, flavour: Flavour) -> None:
        self._folder, self._flavour = folder / flavour, flavour
        self.server = self._start()

    def _start(self) -> RunningServer:
        return start_redis(self._folder, durable=False, flavour=self._flavour)

    def save(self) -> None:
        """Keep a copy of everything."""
        with Redis.from_url(self.server.url) as redis:
            redis.save()

    def rewind(self) -> None:
        """Die, and come back as the copy."""
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait(10)
        self.server.stop()
        self.server = self._start()


@contextmanager
def rewindable(folder: Path, flavour: Flavour) -> Iterator[Rewindable]:
    """One that is stopped at the end."""
    made = Rewindable(folder, flavour)
    try:
        yield made
    finally:
        made.server.stop()


async def until_served(api: Api, run_id: str, *, num_tasks: int) -> PromptBatch:
    """The first lease after the loss; until then every answer says that it is for a moment."""
    found: list[PromptBatch] = []

    async def served() -> bool:
        answer = await api.try_lease(run_id, num_tasks)
        if answer.status_code == 503:
            assert problem(answer, 503, answer.json()["code"]).retryable
            return False
        found.append(parse(answer, PromptBatch))
        return True

    await wait_until(served, what="the run is served again")
    return found[0]


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_an_older_copy_of_redis_serves_nothing(
    flavour: Flavour, database_url: str, short_folder: Path
) -> None:
    with rewindable(short_folder, flavour) as redis:
        url = redis.server.url
        async with sampler_app(database_url, url) as first, sampler_app(database_url, url) as other:
            run = await first.create_run(num_tasks=12, mode="curriculum_only")
            before = await first.lease(run.id, 4)
            redis.save()
            await first.reported(before)
            leased = await first.lease(run.id, 4, ttl_s=60)
            assert leased.lease is not None
            redis.rewind()
            again, answer = await asyncio.gather(
                until_served(first, run.id, num_tasks=12),
                other.report(leased, key="lost"),
            )
            assert again.lease is not None
            assert again.lease.fence >> 36 == run.epoch + 1
            assert again.lease.fence > leased.lease.fence
            assert len(again.items) == 12, "no lease of the older copy lives on"
            assert answer.status_code in (409, 503)
            problem(await other.report(leased, key="lost"), 409, "lease_superseded")
            problem(await other.report(before, key="again"), 409, "lease_superseded")
            assert query(database_url, "SELECT epoch FROM runs") == [(run.epoch + 1,)]
            check_laws(url, run.id, num_tasks=12)
            await other.reported(again)
            check_run(database_url, url, run)


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_a_server_that_was_replaced_under_a_heartbeat_is_noticed(
    flavour: Flavour, database_url: str, short_folder: Path
) -> None:
    """Heartbeats have connections of their own: they, too, must not revive a lease of the past."""
    with rewindable(short_folder, flavour) as redis:
        async with sampler_app(database_url, redis.server.url) as api:
            run = await api.create_run(num_tasks=12)
            batch = await api.lease(run.id, 4)
            assert batch.lease is not None
            path, body = f"/v1/leases/{batch.lease.id}/extend", {"fence": batch.lease.fence}
            assert (await api.post(path, body)).status_code == 200
            redis.save()
            redis.rewind()

            async def superseded() -> bool:
                answer = await api.post(path, body)
                assert answer.status_code in (409, 503)
                return answer.status_code == 409

            await wait_until(superseded, what="the lease is known to be lost")
            assert len((await api.lease(run.id, 12)).items) == 12
