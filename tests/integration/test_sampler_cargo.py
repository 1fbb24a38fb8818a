"""Trajectories have a budget and an end: whatever becomes of their lease, no byte stays behind."""

from __future__ import annotations

from etude_sampler.embedded import RunningServer
from etude_sampler.ports.races import RunKey
from etude_sampler.store.redis.connection import connect
from etude_sampler.store.redis.views import RedisRaces
from support.sampler_app import Api
from support.sampler_app_redis import check_laws, read_hot
from support.waiting import wait_until
from support.workload import cargo


async def stage(redis: RunningServer, key: RunKey, group_id: str, body: bytes) -> bool:
    """The second step of a report, as a replica does it that then dies."""
    client = connect(redis.url, pool_size=1, timeout_s=10.0)
    try:
        return await RedisRaces(client).stage(key, group_id, body)
    finally:
        await client.aclose()


async def test_staged_trajectories_of_a_lost_lease_are_freed(
    api: Api, redis_server: RunningServer
) -> None:
    """The replica died after it had staged them; the lease runs out and takes them along."""
    run = await api.create_run(num_tasks=6, limits={"lease_ttl_s": 0.4})
    batch = await api.lease(run.id, 3)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id)
    hot = read_hot(redis_server.url, run.id)
    key = RunKey(run.id, hot.epoch, len(batch.component_weights) + 1)
    group_id = f"{batch.lease.id}:{batch.items[0].task.ordinal}"
    assert await stage(redis_server, key, group_id, body)
    assert (await api.counts(run.id)).cargo_bytes == len(body)

    async def over() -> bool:
        return (await api.counts(run.id)).num_leased == 0

    await wait_until(over, what="the lease has run out")
    assert (await api.counts(run.id)).cargo_bytes == 0
    check_laws(redis_server.url, run.id, num_tasks=6)


async def test_a_replica_that_stages_too_late_leaves_nothing(
    api: Api, redis_server: RunningServer
) -> None:
    """It slept between pin and stage: the task has left the lease, nothing would free the bytes."""
    run = await api.create_run(num_tasks=6)
    batch = await api.lease(run.id, 2)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id)
    await api.reported(batch, body)
    training = (await api.counts(run.id)).cargo_bytes
    hot = read_hot(redis_server.url, run.id)
    key = RunKey(run.id, hot.epoch, len(batch.component_weights) + 1)
    reported = f"{batch.lease.id}:{batch.items[0].task.ordinal}"
    assert not await stage(redis_server, key, reported, body * 2), "settled before"
    released = f"{batch.lease.id}:{batch.items[1].task.ordinal}"
    answer = await api.post(f"/v1/leases/{batch.lease.id}/release", {"fence": batch.lease.fence})
    assert answer.status_code == 200
    assert not await stage(redis_server, key, released, body), "given back before"
    assert (await api.counts(run.id)).cargo_bytes == training == len(body)
    check_laws(redis_server.url, run.id, num_tasks=6)
