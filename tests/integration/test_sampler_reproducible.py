"""Same seed, same sequence of calls: same batches, same statistics, bit for bit (invariant 8)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from etude_proto.v1 import PromptBatch, Run
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api
from support.sampler_app_redis import read_hot
from support.workload import report_of
from support.workload_model import stored_statistics

Trace = list[object]
LONG = {"lease_ttl_s": 3600.0}
"""No lease runs out between a run's last call and the look at what it holds."""


def seen(batch: PromptBatch) -> object:
    """All of a batch that a seed decides."""
    return [
        (i.task.ordinal, i.lane, i.arm, i.weight, i.slot_probability, i.entry, i.num_rollouts)
        for i in batch.items
    ], batch.component_weights


async def play(apis: Sequence[Api], run: Run, *, seed: int, num_steps: int = 45) -> Trace:
    """A sequence of calls that a seed decides, spread over the replicas."""
    rng = random.Random(seed)
    trace: Trace = []
    held: list[PromptBatch] = []
    version = 0
    for number in range(num_steps):
        api = apis[number % len(apis)]
        step = rng.choice(["lease", "lease", "report", "part", "release", "announce"])
        if step == "lease" and sum(len(batch.items) for batch in held) > 20:
            step = "report"
        if step == "lease":
            batch = await api.lease(run.id, rng.randrange(1, 6), worker=f"w{number}")
            trace.append(seen(batch))
            held.append(batch)
        elif step == "announce":
            version += 1
            receipt = await api.announced(run.id, version)
            trace.append((receipt.num_groups, receipt.component_weights))
        elif held:
            batch = held.pop(rng.randrange(len(held)))
            assert batch.lease is not None
            if step == "release":
                body = {"fence": batch.lease.fence}
                await api.post(f"/v1/leases/{batch.lease.id}/release", body)
                continue
            if step == "part" and len(batch.items) > 1:
                rest = batch.model_copy(update={"items": batch.items[1:]})
                batch = batch.model_copy(update={"items": batch.items[:1]})
                held.append(rest)
            receipts = await api.reported(batch, report_of(batch, skill=0.6))
            trace.append([(g.task_id, g.gate) for g in receipts.groups])
    return trace


def held_numbers(database_url: str, redis_url: str, run: Run) -> object:
    """Statistics, weights, arrival times, clocks and credits at the end."""
    hot = read_hot(redis_url, run.id)
    lanes = [hot.lane(index) for index in range(len(run.resolved.lanes))]
    packed = [hot.packed(name) for name in ("clocks", "credits", "totals", "shares")]
    return stored_statistics(database_url, run.id), lanes, packed, hot.hashes["tasks"]


async def test_replicas_and_repetitions_change_nothing(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    first = await pair[0].create_run(num_tasks=40, seed=11, mode="curriculum_only", limits=LONG)
    again = [
        await pair[0].create_run(
            dataset_id=first.dataset_id, seed=11, mode="curriculum_only", limits=LONG
        )
        for _ in range(2)
    ]
    runs, ways = [first, *again], [pair[:1], pair, pair[::-1]]
    traces = [await play(way, run, seed=1) for way, run in zip(ways, runs, strict=True)]
    assert len(traces[0]) > 30
    assert traces[1] == traces[0]
    assert traces[2] == traces[0]
    numbers = [held_numbers(database_url, redis_server.url, run) for run in runs]
    assert numbers[1] == numbers[0]
    assert numbers[2] == numbers[0]


async def test_another_seed_draws_other_batches(valkey_api: Api) -> None:
    first = await valkey_api.create_run(num_tasks=40, seed=11, mode="curriculum_only")
    other = await valkey_api.create_run(
        dataset_id=first.dataset_id, seed=12, mode="curriculum_only"
    )
    traces = [await play([valkey_api], run, seed=1, num_steps=6) for run in (first, other)]
    assert traces[0] != traces[1]


async def test_what_happens_elsewhere_changes_nothing(pair: tuple[Api, Api]) -> None:
    """Long polls that find nothing, retries and refused calls draw no numbers."""
    first = await pair[0].create_run(num_tasks=20, seed=5)
    other = await pair[0].create_run(dataset_id=first.dataset_id, seed=5)
    plain, noisy = [], []
    for _ in range(3):
        plain.append(seen(await pair[0].lease(first.id, 4)))
    for number in range(3):
        await pair[1].try_lease(other.id, 5000)
        batch = await pair[1].lease(other.id, 4, key=f"k{number}")
        await pair[0].lease(other.id, 4, key=f"k{number}")
        await pair[0].post(f"/v1/runs/{other.id}/pause")
        await pair[1].try_lease(other.id, 4)
        await pair[0].post(f"/v1/runs/{other.id}/resume")
        noisy.append(seen(batch))
    assert noisy == plain
