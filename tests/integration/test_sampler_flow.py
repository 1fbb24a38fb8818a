"""Flow control: caps, back-pressure, pause, and long polls that sleep until something changes."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis import Redis

from etude_proto.v1 import Counts, DegradedReason, PromptBatch, Run, RunStatus
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem
from support.sampler_app_redis import check_laws
from support.waiting import wait_until

CAP = {"cap_groups": 8, "training_batch_groups": 4}
WAKES_WITHIN_S = 1.0
"""Far below the 5 s after which a waiter looks again without a bell."""


async def refused(api: Api, run_id: str, num_tasks: int = 1) -> DegradedReason | None:
    """Why a lease comes back empty."""
    batch = parse(await api.try_lease(run_id, num_tasks), PromptBatch)
    assert (batch.lease, batch.items) == (None, [])
    return batch.degraded_reason


async def patch_limits(api: Api, run: Run, **limits: object) -> Run:
    """Change some of a run's limits at its revision."""
    body = {"limits": limits}
    answer = await api.post(
        f"/v1/runs/{run.id}", body, method="PATCH", headers={"If-Match": f'"{run.revision}"'}
    )
    return parse(answer, Run)


async def test_limits_that_are_not_given_stay(valkey_api: Api) -> None:
    """Also those of retention, and in a fork; what contradicts what stays is refused."""
    api = valkey_api
    limits = {"max_batch_tasks": 3, "retention": {"receipts_s": None, "late_s": 7200}}
    run = await api.create_run(limits=limits)
    now = await patch_limits(api, run, retention={"late_s": 3600}, cap_groups=40)
    want = run.limits.model_dump() | {"cap_groups": 40}
    want["retention"] |= {"late_s": 3600}
    assert now.limits.model_dump() == want
    assert now.limits.retention.receipts_s is None
    tag = {"If-Match": f'"{now.revision}"'}
    path, body = f"/v1/runs/{run.id}", {"limits": {"cap_groups": 7}}
    found = problem(await api.post(path, body, method="PATCH", headers=tag), 422, "payload_invalid")
    assert "two training batches" in found.detail
    fork = {"name": "fork", "limits": {"max_staleness": 9}}
    made = parse(await api.post(f"{path}/fork", fork), Run, 201)
    assert made.limits.model_dump() == want | {"max_staleness": 9}


async def test_leased_tasks_and_ready_groups_fill_the_cap(
    api: Api, redis_server: RunningServer
) -> None:
    run = await api.create_run(num_tasks=30, limits=CAP)
    six = await api.lease(run.id, 6)
    two = await api.lease(run.id, 6)
    assert (len(two.items), two.degraded_reason) == (2, DegradedReason.QUEUE_FULL)
    assert await refused(api, run.id) is DegradedReason.QUEUE_FULL
    await api.report_cargo(six)
    assert (await api.counts(run.id)).num_ready_groups == 6
    assert await refused(api, run.id) is DegradedReason.QUEUE_FULL
    training = await api.train(run.id)
    assert training.manifest.lease is not None
    assert len(training.manifest.groups) == 4
    four = await api.lease(run.id, 30)
    assert len(four.items) == 4
    await api.report_cargo(four, values=(1.0, 1.0, 1.0, 1.0))
    assert len((await api.lease(run.id, 30)).items) == 4, "groups that teach nothing hold no slot"
    check_laws(redis_server.url, run.id, num_tasks=30)


async def test_a_report_is_never_refused_for_fullness(
    api: Api, redis_server: RunningServer
) -> None:
    """Limits lowered under live leases: reports are taken, the stalest ready groups go."""
    run = await api.create_run(num_tasks=30, limits={**CAP, "cap_groups": 16})
    batch = await api.lease(run.id, 16)
    await api.report_cargo(batch.model_copy(update={"items": batch.items[:10]}))
    run = await patch_limits(api, run, cap_groups=8)
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.num_evicted, counts.num_leased) == (8, 2, 6)
    receipts = await api.report_cargo(batch.model_copy(update={"items": batch.items[10:]}))
    assert {receipt.groups[0].gate for receipt in receipts} == {"admitted"}
    assert await refused(api, run.id) is DegradedReason.QUEUE_FULL
    check_laws(redis_server.url, run.id, num_tasks=30)


async def test_pausing_stops_draws_and_nothing_else(
    pair: tuple[Api, Api], redis_server: RunningServer
) -> None:
    run = await pair[0].create_run(num_tasks=12)
    batch = await pair[0].lease(run.id, 4)
    paused = parse(await pair[0].post(f"/v1/runs/{run.id}/pause"), Run)
    assert paused.status is RunStatus.PAUSED
    assert await refused(pair[1], run.id) is DegradedReason.RUN_PAUSED
    await pair[1].report_cargo(batch)
    training = await pair[1].train(run.id)
    await pair[1].acked(training, 1)
    again = parse(await pair[1].post(f"/v1/runs/{run.id}/pause"), Run)
    assert again == parse(await pair[0].get(f"/v1/runs/{run.id}"), Run)
    parse(await pair[1].post(f"/v1/runs/{run.id}/resume"), Run)
    assert len((await pair[0].lease(run.id, 4)).items) == 4
    check_laws(redis_server.url, run.id, num_tasks=12)


@pytest.mark.parametrize("event", ["release", "resume", "ack", "cap", "train"])
async def test_a_long_poll_wakes_when_a_slot_frees(pair: tuple[Api, Api], event: str) -> None:
    """The waiter is on one replica, the event on the other."""
    here, there = pair
    run = await here.create_run(num_tasks=30, limits={**CAP, "max_staleness": 0})
    blocker = await here.lease(run.id, 8)
    assert blocker.lease is not None
    lease_path, body = f"/v1/leases/{blocker.lease.id}", {"fence": blocker.lease.fence}
    training = None
    if event in ("ack", "train"):
        await here.report_cargo(blocker)
    if event == "ack":
        training = await here.train(run.id)
        await here.lease(run.id, 4)
    if event == "resume":
        await here.post(f"{lease_path}/release", body)
        await here.post(f"/v1/runs/{run.id}/pause")
    waiting = asyncio.create_task(there.try_lease(run.id, 2, wait_s=20))
    await _asleep(waiting)
    began = time.monotonic()
    if event == "release":
        await here.post(f"{lease_path}/release", body)
    elif event == "resume":
        await here.post(f"/v1/runs/{run.id}/resume")
    elif event == "cap":
        await patch_limits(here, run, cap_groups=10)
    elif event == "train":
        await here.train(run.id)
    else:
        assert training is not None
        await here.acked(training, 1)  # purges the four ready groups that are now too stale
    batch = parse(await waiting, PromptBatch)
    assert batch.lease is not None
    assert len(batch.items) == 2
    assert time.monotonic() - began < WAKES_WITHIN_S


async def _asleep(waiting: asyncio.Task[object]) -> None:
    """Let a long poll go to sleep; it must not have answered."""
    began = time.monotonic()

    async def a_moment_passed() -> bool:
        return time.monotonic() - began > 0.3

    await wait_until(a_moment_passed, what="time goes by")
    assert not waiting.done()


async def test_a_trainer_wakes_when_a_batch_is_complete(pair: tuple[Api, Api]) -> None:
    here, there = pair
    run = await here.create_run(num_tasks=12, limits=CAP)
    batch = await here.lease(run.id, 4)
    await here.report_cargo(batch.model_copy(update={"items": batch.items[:3]}))
    waiting = asyncio.create_task(there.train(run.id, wait_s=20))
    await _asleep(waiting)
    began = time.monotonic()
    await here.report_cargo(batch.model_copy(update={"items": batch.items[3:]}))
    assert len((await waiting).manifest.groups) == 4
    assert time.monotonic() - began < WAKES_WITHIN_S


async def test_waiting_costs_no_scripts(api: Api, redis_server: RunningServer) -> None:
    """Four long polls of 2 s each look a few times, not in a loop."""
    run = await api.create_run(num_tasks=4)
    await api.lease(run.id, 4)
    with Redis.from_url(redis_server.url) as redis:

        def scripts_run() -> int:
            stats = redis.info("commandstats")
            return sum(
                int(stats.get(f"cmdstat_{n}", {}).get("calls", 0)) for n in ("evalsha", "eval")
            )

        before = scripts_run()
        polls = [api.try_lease(run.id, 1, wait_s=1.5) for _ in range(4)]
        polls += [api.try_train(run.id, wait_s=1.5) for _ in range(4)]
        began = time.monotonic()
        await asyncio.gather(*polls)
        assert 1.4 < time.monotonic() - began < 3.0
        assert scripts_run() - before <= 3 * len(polls)


async def test_invariant_10_bounded_limits_that_contradict_are_refused(valkey_api: Api) -> None:
    """Bounds are checked against each other, at creation and at every change (invariant 10)."""
    api = valkey_api
    run = await api.create_run()
    for limits, pointer in (
        ({"cap_groups": 7}, "/limits"),
        ({"cargo_bytes": 1 << 20}, "/limits"),
        ({"training_batch_groups": 0}, "/limits/training_batch_groups"),
        ({"leases_per_worker": 0}, "/limits/leases_per_worker"),
    ):
        body = {"name": "bad", "dataset_id": run.dataset_id, "limits": {"training_batch_groups": 4}}
        made = {**body, "limits": {"training_batch_groups": 4, **limits}}
        found = problem(await api.post("/v1/runs", made), 422, "payload_invalid")
        assert found.errors[0].pointer == pointer
        found = problem(
            await api.post(
                f"/v1/runs/{run.id}",
                {"limits": made["limits"]},
                method="PATCH",
                headers={"If-Match": '"1"'},
            ),
            422,
            "payload_invalid",
        )
        assert found.errors[0].pointer == pointer
    assert parse(await api.get(f"/v1/runs/{run.id}"), Run) == run


async def test_batches_larger_than_the_run_allows_are_refused(valkey_api: Api) -> None:
    api = valkey_api
    run = await api.create_run(limits={"max_batch_tasks": 5})
    found = problem(await api.try_lease(run.id, 6), 422, "payload_invalid")
    assert found.errors[0].pointer == "/num_tasks"
    found = problem(await api.try_train(run.id, num_groups=33), 422, "payload_invalid")
    assert found.errors[0].pointer == "/num_groups"
    counts: Counts = await api.counts(run.id)
    assert (counts.num_leased, counts.num_groups_drawn) == (0, 0)
