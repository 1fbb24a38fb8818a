"""Prompt leases: exclusive, conserved, extended, released, expired; invariants 1 and 2."""

from __future__ import annotations

import asyncio
import random

import pytest
from httpx import Response

from etude_proto.v1 import DegradedReason, Lease, PromptBatch, Released
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem
from support.sampler_app_redis import check_laws, read_hot
from support.waiting import wait_until


def ids(batch: PromptBatch) -> list[str]:
    """Task ids of a batch."""
    return [item.task.id for item in batch.items]


async def release(api: Api, batch: PromptBatch) -> int:
    """Give a batch back; as clients do, again while reports keep the run's ledger locked."""
    assert batch.lease is not None
    lease = batch.lease
    answers: list[Response] = []

    async def is_answered() -> bool:
        path = f"/v1/leases/{lease.id}/release"
        answers.append(await api.post(path, {"fence": lease.fence}))
        return answers[-1].status_code != 503

    await wait_until(is_answered, what="the release is answered", timeout_s=20)
    return parse(answers[-1], Released).num_released


async def extend(api: Api, batch: PromptBatch, ttl_s: float | None = None) -> Lease:
    """Heartbeat."""
    assert batch.lease is not None
    body = {"fence": batch.lease.fence, "ttl_s": ttl_s}
    return parse(await api.post(f"/v1/leases/{batch.lease.id}/extend", body), Lease)


async def test_a_batch_says_all_that_a_worker_needs(api: Api) -> None:
    run = await api.create_run(num_tasks=9, weights_uri="file:///w0", group_size=6)
    batch = await api.lease(run.id, 5, ttl_s=30)
    assert batch.lease is not None
    assert (batch.lease.run_id, batch.lease.ttl_s) == (run.id, 30)
    assert not batch.degraded
    assert len(set(ids(batch))) == 5
    assert (batch.policy_version, batch.weights_uri) == (0, "file:///w0")
    assert batch.component_weights == {"format": 1, "tool_name": 1, "param_value": 1}
    assert batch.reward == run.reward
    for item in batch.items:
        assert item.num_rollouts == 6
        assert (item.scaffold.kind, item.scaffold.level) == ("none", 0)
        assert item.lane == "uniform" or item.lane in item.task.subtasks
        assert (item.arm == "control") == (item.lane == "uniform")
        assert 0 < item.slot_probability <= 1
        assert item.weight == 1
        assert item.task.messages[0].content == f"question {item.task.ordinal}"


async def test_invariant_1_conservation_no_overlap_and_no_leak(
    pair: tuple[Api, Api], redis_server: RunningServer
) -> None:
    """Eight workers on two replicas lease, report, release and abandon at random."""
    run = await pair[0].create_run(num_tasks=40, limits={"cap_groups": 64, "lease_ttl_s": 2.0})
    live: dict[str, str] = {}

    async def worker(number: int) -> None:
        rng = random.Random(number)
        for turn in range(12):
            api = pair[rng.randrange(2)]
            answer = await api.try_lease(run.id, rng.randrange(1, 7), worker=f"w{number}")
            batch = parse(answer, PromptBatch)
            if batch.lease is None:
                continue
            mine = set(ids(batch))
            if turn % 4 == 3:
                continue  # abandoned: expires
            await extend(api, batch, ttl_s=30)
            assert not mine & set(live), "a task is in two live leases"
            live.update(dict.fromkeys(mine, batch.lease.id))
            check_laws(redis_server.url, run.id, num_tasks=40)
            await asyncio.sleep(0)
            assert {live.pop(task) for task in mine} == {batch.lease.id}
            if rng.random() < 0.3:
                assert await release(api, batch) == len(mine)
            else:
                await pair[rng.randrange(2)].reported(batch)

    await asyncio.gather(*(worker(number) for number in range(8)))

    async def all_back() -> bool:
        return (await pair[0].counts(run.id)).num_leased == 0

    await wait_until(all_back, what="abandoned leases expire")
    hot = check_laws(redis_server.url, run.id, num_tasks=40)
    assert hot.count("n_expired") > 0
    assert hot.leased() == {}


async def test_an_expired_lease_is_drawn_again_with_a_fresh_entry(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run(num_tasks=3)
    first = await api.lease(run.id, 3, ttl_s=0.2)
    second = parse(await api.try_lease(run.id, 3, wait_s=10), PromptBatch)
    assert second.lease is not None
    assert first.lease is not None
    assert sorted(ids(second)) == sorted(ids(first))
    assert second.lease.fence > first.lease.fence
    entries = {item.task.id: item.entry for item in first.items}
    assert all(item.entry == entries[item.task.id] + 1 for item in second.items)
    assert (await api.counts(run.id)).num_expired == 3
    path = f"/v1/leases/{first.lease.id}"
    for call in ("extend", "release"):
        answer = await api.post(f"{path}/{call}", {"fence": first.lease.fence})
        problem(answer, 409, "lease_superseded")
    check_laws(redis_server.url, run.id, num_tasks=3)


async def test_heartbeats_keep_a_lease(api: Api) -> None:
    run = await api.create_run(num_tasks=3)
    batch = await api.lease(run.id, 3, ttl_s=0.2)
    assert batch.lease is not None
    extended = await extend(api, batch, ttl_s=20)
    assert extended.deadline_ms >= batch.lease.deadline_ms + 19_000
    assert (extended.fence, extended.ttl_s) == (batch.lease.fence, 20)
    shorter = await extend(api, batch)
    assert shorter.deadline_ms == extended.deadline_ms, "a heartbeat never shortens a lease"
    empty = parse(await api.try_lease(run.id, 1, wait_s=0.6), PromptBatch)
    assert empty.degraded_reason is DegradedReason.NOTHING_WAITING
    assert len((await api.reported(batch)).groups) == 3


async def test_deadlines_that_passed_do_not_matter_while_the_lease_stands(api: Api) -> None:
    """The fence decides, not a clock: whoever comes before the expiry is served."""
    run = await api.create_run(num_tasks=3)
    batch = await api.lease(run.id, 3, ttl_s=0.2)
    assert (await api.reported(batch)).num_remaining == 0
    assert (await api.counts(run.id)).num_expired == 0


async def test_release_gives_back_what_is_not_reported(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run(num_tasks=6)
    batch = await api.lease(run.id, 4)
    assert batch.lease is not None
    part = batch.model_copy(update={"items": batch.items[:1]})
    assert (await api.reported(part)).num_remaining == 3
    key = "release-once"
    path, body = f"/v1/leases/{batch.lease.id}/release", {"fence": batch.lease.fence}
    first = await api.post(path, body, key=key)
    assert parse(first, Released).num_released == 3
    again = await api.post(path, body, key=key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    problem(await api.post(path, body), 409, "lease_superseded")
    check_laws(redis_server.url, run.id, num_tasks=6)
    assert (await api.counts(run.id)).num_waiting == 6


async def test_a_lease_call_repeated_with_its_key_is_the_same_lease(
    pair: tuple[Api, Api], redis_server: RunningServer
) -> None:
    run = await pair[0].create_run(num_tasks=12)
    first = await pair[0].lease(run.id, 4, key="same")
    again = await pair[1].lease(run.id, 4, key="same")
    assert again.lease == first.lease
    by_id = {item.task.id: item for item in first.items}
    assert {item.task.id: item for item in again.items} == by_id
    assert (await pair[0].counts(run.id)).num_leased == 4
    other = await pair[1].try_lease(run.id, 5, key="same")
    problem(other, 422, "idempotency_key_reused")
    await pair[0].reported(first)
    fresh = await pair[0].lease(run.id, 4, key="same")
    assert fresh.lease is not None
    assert first.lease is not None
    assert fresh.lease.id != first.lease.id
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_a_worker_holds_so_many_leases(api: Api) -> None:
    run = await api.create_run(num_tasks=12, limits={"leases_per_worker": 2})
    held = [await api.lease(run.id, 1, worker="greedy") for _ in range(2)]
    third = parse(await api.try_lease(run.id, 1, worker="greedy"), PromptBatch)
    assert (third.lease, third.items, third.degraded) == (None, [], True)
    assert third.degraded_reason is DegradedReason.WORKER_LIMIT
    assert (await api.lease(run.id, 1, worker="modest")).lease is not None
    await release(api, held[0])
    assert (await api.lease(run.id, 1, worker="greedy")).lease is not None


async def test_fences_rise_with_every_lease_of_either_kind(api: Api) -> None:
    run = await api.create_run(num_tasks=12)
    fences = []
    for _ in range(3):
        batch = await api.lease(run.id, 4)
        assert batch.lease is not None
        fences.append(batch.lease.fence)
        await api.report_cargo(batch)
        training = (await api.train(run.id)).manifest.lease
        assert training is not None
        fences.append(training.fence)
    assert fences == sorted(set(fences))
    assert {fence >> 36 for fence in fences} == {run.epoch}


@pytest.mark.parametrize("num_tasks", [1, 7])
async def test_a_batch_takes_what_there_is(api: Api, num_tasks: int) -> None:
    run = await api.create_run(num_tasks=num_tasks)
    batch = await api.lease(run.id, 64)
    assert len(batch.items) == num_tasks
    assert batch.degraded_reason is DegradedReason.NOTHING_WAITING
    empty = parse(await api.try_lease(run.id, 1), PromptBatch)
    assert empty.degraded_reason is DegradedReason.NOTHING_WAITING


async def test_replicas_leave_no_lease_of_another_run(
    api: Api, redis_server: RunningServer
) -> None:
    """Two runs of one dataset share its tasks and nothing else."""
    one = await api.create_run(num_tasks=6)
    two = await api.create_run(dataset_id=one.dataset_id)
    first, second = await api.lease(one.id, 6), await api.lease(two.id, 6)
    assert sorted(ids(first)) == sorted(ids(second))
    await api.reported(first)
    assert len(read_hot(redis_server.url, two.id).leased()) == 1
    assert (await api.task(two.id, ids(first)[0])).statistics == []
