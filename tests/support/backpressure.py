"""Eight workers and a slow trainer on a real sampler, faster than life: who waits, what is wasted.

Every duration is divided by `speed`: generation, optimizer steps, times to live, long polls; the
store and the sampler are the real ones, at their real pace. Rewards always vary, so that flow
control alone decides what becomes of a group. Used by `tests/chaos/test_backpressure.py`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from etude_proto.v1 import CurriculumView, PromptBatch, Receipt, Run, RunLimits

from .sampler_app import Api, frame, parse
from .waiting import pass_time
from .workload import cargo

GENERATION_S = 8.0
"""Median of one group (lognormal, sigma 0.5): about what a 7B model needs for 8 short episodes."""
STEP_S = 20.0
SLOW_STEP_S = 60.0
"""A training step; every fifth is slow (it saves or evaluates)."""
NUM_WORKERS = 8
TASKS_PER_BATCH = 4
VALUES = (1.0, 0.0, 1.0, 0.0)


def scaled_limits(speed: float) -> RunLimits:
    """The default limits, but for the times to live, which pass faster, and a group's size."""
    limits = RunLimits(max_group_bytes=1 << 16)
    return limits.model_copy(
        update={
            "lease_ttl_s": limits.lease_ttl_s / speed,
            "training_lease_ttl_s": limits.training_lease_ttl_s / speed,
        }
    )


@dataclass(slots=True)
class Tally:
    """What a simulation came to; durations in simulated seconds."""

    generated: int = 0
    trained: int = 0
    gates: Counter[str] = field(default_factory=Counter)
    late: int = 0
    waited_s: float = 0.0
    """Of all workers, for slots."""
    longest_pause_s: float = 0.0
    """Between two training batches."""
    staleness: Counter[int] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)
    """The sampler's, at the end."""

    @property
    def wasted(self) -> dict[str, int]:
        """Generated groups that are never trained on, by reason."""
        refused = {name: num for name, num in self.gates.items() if name != "admitted"}
        ends = {name: self.counts[f"num_{name}"] for name in ("purged", "evicted")}
        return {**refused, **ends, "late": self.late}

    @property
    def wasted_share(self) -> float:
        """Of all generated groups."""
        return sum(self.wasted.values()) / self.generated

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"generated {self.generated}, trained on {self.trained}, "
            f"still ready {self.counts['num_ready_groups']}",
            f"never trained on {self.wasted_share:.2%}: {self.wasted}",
            f"staleness when leased {dict(sorted(self.staleness.items()))}",
            f"workers waited {self.waited_s:.0f} s; longest pause of training "
            f"{self.longest_pause_s:.0f} s",
        ]


@dataclass(slots=True)
class Simulation:
    """One run under pressure."""

    apis: list[Api]
    run: Run
    speed: float
    seed: int = 1
    tally: Tally = field(default_factory=Tally)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def simulate(self, minutes: float) -> Tally:
        """Let so many simulated minutes pass."""
        async with asyncio.TaskGroup() as group:
            for number in range(NUM_WORKERS):
                group.create_task(self._work(number))
            group.create_task(self._train())
            await self._pass(60.0 * minutes)
            self._stop.set()
        view = await self.apis[0].get(f"/v1/runs/{self.run.id}/curriculum")
        self.tally.counts = parse(view, CurriculumView).counts.model_dump()
        return self.tally

    async def _pass(self, seconds: float) -> None:
        await pass_time(seconds / self.speed)

    async def _work(self, number: int) -> None:
        api, rng = self.apis[number % len(self.apis)], random.Random(f"{self.seed} {number}")
        while not self._stop.is_set():
            began = time.monotonic()
            answer = await api.try_lease(
                self.run.id, TASKS_PER_BATCH, worker=f"w{number}", wait_s=20.0 / self.speed
            )
            batch = parse(answer, PromptBatch)
            self.tally.waited_s += (time.monotonic() - began) * self.speed
            if batch.lease is not None:
                async with asyncio.TaskGroup() as group:
                    for item in batch.items:
                        lasts_s = GENERATION_S * rng.lognormvariate(0.0, 0.5)
                        group.create_task(self._generate(api, batch, item.task.id, lasts_s))

    async def _generate(self, api: Api, batch: PromptBatch, task_id: str, lasts_s: float) -> None:
        assert batch.lease is not None
        await self._pass(lasts_s)
        body = cargo(batch.lease.fence, task_id, VALUES, version=batch.policy_version)
        self.tally.generated += 1
        answer = await api.report(batch, body)
        if answer.status_code == 409:
            self.tally.late += 1
            return
        self.tally.gates[parse(answer, Receipt).groups[0].gate] += 1

    async def _train(self) -> None:
        api, steps, last_s = self.apis[-1], 0, time.monotonic()
        while not self._stop.is_set():
            batch = frame(await api.try_train(self.run.id, wait_s=20.0 / self.speed))
            if batch.manifest.lease is None:
                continue
            pause_s = (time.monotonic() - last_s) * self.speed
            self.tally.longest_pause_s = max(self.tally.longest_pause_s, pause_s)
            steps += 1
            for ref in batch.manifest.groups:
                self.tally.staleness[batch.manifest.policy_version - ref.min_policy_version] += 1
            await self._pass(SLOW_STEP_S if steps % 5 == 0 else STEP_S)
            await api.acked(batch, batch.manifest.policy_version + 1)
            self.tally.trained += len(batch.bodies)
            last_s = time.monotonic()
