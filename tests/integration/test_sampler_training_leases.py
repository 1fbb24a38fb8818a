"""Training leases: redelivered when a trainer dies, acked once, never by who was overtaken."""

from __future__ import annotations

import asyncio

from etude_client.call import TrainingFrame
from etude_proto.v1 import AckReceipt, Lease, Released
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, frame, parse, problem, query
from support.sampler_app_redis import check_laws
from support.waiting import wait_until


def lease_of(batch: TrainingFrame) -> Lease:
    """The lease of a batch that has one."""
    assert batch.manifest.lease is not None
    return batch.manifest.lease


def tasks_of(batch: TrainingFrame) -> list[str]:
    """Task ids of a batch's groups."""
    return [ref.task_id for ref in batch.manifest.groups]


async def fill(api: Api, run_id: str, num_groups: int) -> None:
    """Make groups ready."""
    await api.report_cargo(await api.lease(run_id, num_groups))


async def extend(api: Api, batch: TrainingFrame, ttl_s: float) -> Lease:
    """Heartbeat."""
    lease = lease_of(batch)
    body = {"fence": lease.fence, "ttl_s": ttl_s}
    return parse(await api.post(f"/v1/training-batches/{lease.id}/extend", body), Lease)


async def release(api: Api, batch: TrainingFrame) -> int:
    """Give a batch back."""
    lease = lease_of(batch)
    answer = await api.post(f"/v1/training-batches/{lease.id}/release", {"fence": lease.fence})
    return parse(answer, Released).num_released


async def test_a_dead_trainers_batch_goes_to_the_next(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    """The first trainer, back from the dead, cannot ack: nothing it did counts."""
    run = await pair[0].create_run()
    await fill(pair[0], run.id, 4)
    first = await pair[0].train(run.id, ttl_s=0.2, trainer="first")
    second = await pair[1].train(run.id, wait_s=10, trainer="second")
    assert tasks_of(second) == tasks_of(first)
    assert second.bodies == first.bodies
    assert lease_of(second).fence > lease_of(first).fence
    problem(await pair[0].ack(first, 1), 409, "lease_superseded")
    assert query(database_url, "SELECT policy_version FROM runs") == [(0,)]
    await pair[1].acked(second, 1)
    problem(await pair[0].ack(first, 1), 409, "lease_superseded")
    problem(await pair[0].ack(first, 2), 409, "lease_superseded")
    counts = (await pair[0].view(run.id)).counts
    assert (counts.num_ready_groups, counts.num_training_groups, counts.cargo_bytes) == (0, 0, 0)
    assert query(database_url, "SELECT policy_version FROM runs") == [(1,)]
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_an_ack_retried_is_the_same_ack(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    run = await pair[0].create_run()
    await fill(pair[0], run.id, 8)
    batch = await pair[0].train(run.id)
    first = await pair[0].ack(batch, 1, key="ack")
    again = await pair[1].ack(batch, 1, key="ack")
    assert parse(first, AckReceipt).policy_version == 1
    assert (again.status_code, again.content) == (200, first.content)
    await pair[0].acked(await pair[0].train(run.id), 2)
    late = await pair[1].ack(batch, 1, key="ack")
    assert (late.status_code, late.content) == (200, first.content)
    problem(await pair[1].ack(batch, 2, key="ack"), 422, "idempotency_key_reused")
    problem(await pair[1].ack(batch, 3), 409, "lease_superseded")
    assert query(database_url, "SELECT version FROM policy_versions ORDER BY 1") == [(1,), (2,)]
    assert (await pair[1].view(run.id)).policy_version == 2
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_the_same_ack_at_once_counts_once(pair: tuple[Api, Api], database_url: str) -> None:
    run = await pair[0].create_run()
    await fill(pair[0], run.id, 4)
    batch = await pair[0].train(run.id)
    same = await asyncio.gather(*(pair[i % 2].ack(batch, 1, key="ack") for i in range(6)))
    assert {answer.status_code for answer in same} == {200}
    assert len({answer.content for answer in same}) == 1
    rivals = await asyncio.gather(*(pair[i % 2].ack(batch, 1) for i in range(4)))
    assert {answer.status_code for answer in rivals} == {409}
    assert query(database_url, "SELECT version FROM policy_versions") == [(1,)]


async def test_an_ack_of_another_version_settles_nothing(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run()
    await fill(api, run.id, 4)
    batch = await api.train(run.id)
    for version in (0, 2, 7):
        problem(await api.ack(batch, version), 409, "version_conflict")
    assert (await api.counts(run.id)).num_training_groups == 4
    await api.acked(batch, 1)
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_a_trainer_that_was_overtaken_cannot_announce(
    api: Api, redis_server: RunningServer
) -> None:
    """Two live batches: after the younger one is acked, the older one's weights are of the past."""
    run = await api.create_run()
    await fill(api, run.id, 8)
    older, younger = await api.train(run.id), await api.train(run.id)
    assert not set(tasks_of(older)) & set(tasks_of(younger))
    await api.acked(younger, 1)
    problem(await api.ack(older, 2), 409, "lease_superseded")
    assert (await api.counts(run.id)).num_training_groups == 4
    assert await release(api, older) == 4
    again = await api.train(run.id)
    assert sorted(tasks_of(again)) == sorted(tasks_of(older))
    await api.acked(again, 2)
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_heartbeats_and_releases_of_batches(api: Api, redis_server: RunningServer) -> None:
    run = await api.create_run()
    await fill(api, run.id, 4)
    batch = await api.train(run.id, ttl_s=0.3)
    extended = await extend(api, batch, ttl_s=30)
    assert extended.deadline_ms > lease_of(batch).deadline_ms + 20_000
    empty = (await api.train(run.id, wait_s=0.6)).manifest
    assert empty.lease is None
    assert await release(api, batch) == 4
    for name in ("extend", "release"):
        lease = lease_of(batch)
        answer = await api.post(f"/v1/training-batches/{lease.id}/{name}", {"fence": lease.fence})
        problem(answer, 409, "lease_superseded")
    assert tasks_of(await api.train(run.id)) == tasks_of(batch), "the order is kept"
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_a_wrong_fence_moves_no_batch(api: Api, redis_server: RunningServer) -> None:
    run = await api.create_run()
    await fill(api, run.id, 4)
    batch = await api.train(run.id)
    lease = lease_of(batch)
    path = f"/v1/training-batches/{lease.id}"
    hot = check_laws(redis_server.url, run.id, num_tasks=12)
    for fence in (lease.fence - 1, lease.fence + 1, 0):
        body = {"fence": fence}
        problem(await api.post(f"{path}/extend", body), 409, "lease_superseded")
        problem(await api.post(f"{path}/release", body), 409, "lease_superseded")
        ack = {**body, "policy_version": 1, "weights_uri": "file:///stolen"}
        problem(await api.post(f"{path}/ack", ack), 409, "lease_superseded")
    after = check_laws(redis_server.url, run.id, num_tasks=12)
    assert after.without_deadlines() == hot.without_deadlines()
    await api.acked(batch, 1)


async def test_a_lease_call_repeated_with_its_key_is_the_same_batch(
    pair: tuple[Api, Api], redis_server: RunningServer
) -> None:
    run = await pair[0].create_run()
    await fill(pair[0], run.id, 8)
    first = await pair[0].try_train(run.id, key="same")
    again = await pair[1].try_train(run.id, key="same")
    assert again.content == first.content
    other = await pair[1].try_train(run.id, key="same", num_groups=2)
    problem(other, 422, "idempotency_key_reused")
    problem(await pair[1].try_lease(run.id, 1, key="same"), 422, "idempotency_key_reused")
    assert (await pair[0].counts(run.id)).num_training_groups == 4
    await pair[0].acked(frame(first), 1)
    next_batch = await pair[1].train(run.id, key="same")
    assert lease_of(next_batch).id != lease_of(frame(first)).id
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_a_batch_that_expires_too_stale_is_dropped(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run(limits={"training_batch_groups": 2, "max_staleness": 0})
    await fill(api, run.id, 4)
    dead, live = await api.train(run.id, ttl_s=0.4), await api.train(run.id)
    assert lease_of(dead).fence < lease_of(live).fence
    await api.acked(live, 1)

    async def dropped() -> bool:
        return (await api.counts(run.id)).num_training_leases == 0

    await wait_until(dropped, what="the dead trainer's batch ends")
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.num_purged, counts.cargo_bytes) == (0, 2, 0)
    check_laws(redis_server.url, run.id, num_tasks=12)
