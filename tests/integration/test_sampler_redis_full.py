"""Redis at its memory limit: nothing new goes in, nothing is half done, what frees memory works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from etude_proto.v1 import PromptBatch, Released, Run
from etude_sampler.embedded import RunningServer, start_redis
from etude_sampler.embedded.binaries import Flavour
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws, read_hot
from support.waiting import wait_until
from support.workload import cargo


@dataclass(frozen=True, slots=True)
class Own:
    """A replica with a Redis server of its own, whose memory a test may limit."""

    api: Api
    server: RunningServer
    database_url: str

    def limit(self, num_bytes: int) -> None:
        """Set the memory limit; 0: none."""
        with Redis.from_url(self.server.url) as redis:
            redis.config_set("maxmemory", num_bytes)

    def hot(self, run: Run) -> dict[str, object]:
        """What no refused call may change."""
        return read_hot(self.server.url, run.id).without_deadlines()


@pytest.fixture(params=["valkey", "redis"])
async def own(
    request: pytest.FixtureRequest, database_url: str, short_folder: Path
) -> AsyncIterator[Own]:
    """Both flavours; the server dies with the test."""
    flavour: Flavour = request.param
    server = start_redis(short_folder / flavour, durable=False, flavour=flavour)
    try:
        async with sampler_app(database_url, server.url) as api:
            yield Own(api, server, database_url)
    finally:
        server.stop()


def body_of(batch: PromptBatch, i: int) -> bytes:
    """One group of a batch with its trajectories."""
    assert batch.lease is not None
    return cargo(batch.lease.fence, batch.items[i].task.id, version=batch.policy_version)


async def test_new_work_is_refused_whole(own: Own) -> None:
    run = await own.api.create_run(num_tasks=12)
    batch = await own.api.lease(run.id, 4)
    own.limit(1)
    before = own.hot(run)
    for answer in (
        await own.api.try_lease(run.id, 4),
        await own.api.report(batch, body_of(batch, 0), key="staged"),
    ):
        found = problem(answer, 503, "redis_full")
        assert found.retryable
        assert int(answer.headers["retry-after"]) >= 1
    assert own.hot(run) == before
    assert query(own.database_url, "SELECT count(*) FROM ledger") == [(0,)]
    assert (await own.api.view(run.id)).counts.num_leased == 4
    own.limit(0)
    receipt = await own.api.reported(batch, body_of(batch, 0), key="staged")
    assert receipt.groups[0].gate == "admitted"
    assert query(own.database_url, "SELECT count(*) FROM ledger") == [(1,)]
    check_laws(own.server.url, run.id, num_tasks=12)


async def test_what_frees_memory_still_works(own: Own) -> None:
    """Heartbeat, report, release, expiry, training batch, ack: all of them on a full server."""
    api = own.api
    run = await api.create_run(num_tasks=16, limits={"training_lease_ttl_s": 0.5})
    await api.report_cargo(await api.lease(run.id, 4))
    kept, back = await api.lease(run.id, 4), await api.lease(run.id, 3)
    await api.lease(run.id, 2, ttl_s=0.3)
    assert kept.lease is not None
    assert back.lease is not None
    own.limit(1)
    path = f"/v1/leases/{kept.lease.id}/extend"
    assert (await api.post(path, {"fence": kept.lease.fence})).status_code == 200
    assert (await api.reported(kept)).num_remaining == 0
    released = await api.post(f"/v1/leases/{back.lease.id}/release", {"fence": back.lease.fence})
    assert parse(released, Released).num_released == 3

    async def expired() -> bool:
        return (await api.counts(run.id)).num_leased == 0

    await wait_until(expired, what="the unattended lease has run out")
    lost = await api.train(run.id)
    assert lost.manifest.lease is not None

    async def ready_again() -> bool:
        return (await api.counts(run.id)).num_ready_groups == 4

    await wait_until(ready_again, what="the unattended training batch is ready again")
    training = await api.train(run.id)
    assert len(training.bodies) == 4
    assert (await api.acked(training, 1)).num_groups == 8
    assert (await api.post(f"/v1/runs/{run.id}/pause")).status_code == 200
    assert (await api.post(f"/v1/runs/{run.id}/resume")).status_code == 200
    hot = check_laws(own.server.url, run.id, num_tasks=16)
    assert (hot.count("cargo_bytes"), hot.count("n_ready"), hot.count("version")) == (0, 0, 1)
    own.limit(0)
    assert len((await api.lease(run.id, 16)).items) == 16


async def test_a_rebuild_waits_for_memory_and_uses_up_no_epochs(own: Own) -> None:
    run = await own.api.create_run(num_tasks=40)
    own.limit(1)
    with Redis.from_url(own.server.url) as redis:
        redis.flushall()

    def seals() -> int:
        with Redis.from_url(own.server.url) as redis:
            calls: dict[str, int] = redis.info("commandstats").get("cmdstat_unlink", {})
            return int(calls.get("calls", 0))

    async def tried_again() -> bool:
        problem(await own.api.try_train(run.id), 503, "rebuilding")
        problem(await own.api.try_lease(run.id, 4), 503, "redis_full")
        return seals() >= 3

    await wait_until(tried_again, what="the rebuild was tried three times", timeout_s=20)
    own.limit(0)

    async def served() -> bool:
        return (await own.api.try_lease(run.id, 4)).status_code == 200

    await wait_until(served, what="the run is served again", timeout_s=20)
    assert query(own.database_url, "SELECT epoch FROM runs") == [(run.epoch + 1,)]
    check_laws(own.server.url, run.id, num_tasks=40)
