"""One cell of the comparison on a real learner: one strategy, one seed, a budget of rollouts.

Everything is real and in this process: the sampler on PostgreSQL and Valkey, the rollout service's
episodes on its `transformers` engine, ToolRL's reward, the trainer's GRPO step. Only the services'
loops are left out: leasing, generating, training and loading weights take turns, so that a cell is
reproducible and an arm gains nothing by being faster. Used by `real_learner.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

import torch
from real_arms import arm_of, training_config
from real_coaching import ASK
from real_counts import Counts
from real_oracle import Gauge, prefer
from real_policies import Policies, answers
from real_tasks import TASK_SETS, grade_of, training_tasks

from etude_proto.tensors import encode_group
from etude_proto.v1 import PromptBatch, Report, Run, TaskCreate
from etude_rollout.engines.base import Sampling
from etude_rollout.episode import EpisodeOptions, Episodes, FinishedGroup, Terms
from etude_rollout.spans import reward_weights
from etude_trainer.batch import decode_batch
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner, learn
from support.sampler_app import Api, frame

ORACLE_FACTOR = 4
"""An oracle chooses its batch out of this many times as many."""


@dataclass(frozen=True, slots=True)
class CellPlan:
    """What all cells of a comparison share."""

    task_set: str = "skewed"
    rollouts: int = 6144
    """Budget: every rollout for training counts, those of dropped groups too."""
    num_tasks: int = 256
    group_size: int = 8
    tasks_per_batch: int = 16
    batch_groups: int = 16
    lr: float = 1e-3
    eval_every: int = 1024
    """Rollouts between two measurements."""
    num_held_out: int = 150
    num_samples: int = 2
    """Sampled answers for each held-out task; at either end a greedy one besides."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement on the held-out tasks."""

    rollouts: int
    version: int
    success: float
    """Share of sampled answers (temperature 1) with everything right."""
    greedy: float | None
    """Share of greedy answers, where it was measured."""
    by_grade: dict[str, float]
    """Sampled success by grade."""
    asked: float | None = None
    """The same with the request for examples, at either end, where the arm makes it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one cell."""

    arm: str
    seed: int
    plan: dict[str, int | float | str]
    curve: list[Point]
    num_groups: int
    num_informative: int
    num_versions: int
    num_trained: int
    """Groups that were trained on."""
    never_served: float
    """Share of the training tasks that were never served."""
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    """What hard sampling and examples of its own did."""


class CellRun:
    """Runs one cell."""

    def __init__(
        self, api: Api, policies: Policies, plan: CellPlan, *, held_out: Sequence[TaskCreate]
    ) -> None:
        self.api = api
        self.policies = policies
        self._plan = plan
        self._held_out = held_out
        self._curve: list[Point] = []
        self.spent = self._version = self._num_trained = 0
        self._served: set[str] = set()
        self._counts = Counts()
        self._ask = ""

    async def run(self, arm: str, seed: int) -> Cell:
        """Train until the budget is spent."""
        began = time.monotonic()
        plan = self._plan
        torch.manual_seed(seed)
        await self.policies.reset()
        learner = build_learner(
            self.policies.model_dir, training_config(plan.lr, arm_of(arm)), device="cpu"
        )
        tasks = training_tasks(seed, plan.num_tasks, TASK_SETS[plan.task_set])
        run = await self._create_run(arm, seed, tasks)
        self._ask = ASK if arm == "toolexpander" else ""
        wanted = arm_of(arm).oracle
        gauge = None if wanted is None else Gauge(self.policies, tasks, wanted)
        episodes = Episodes(
            self.policies.engine,
            self.policies.prompter,
            EpisodeOptions(
                sampling=Sampling(max_new_tokens=self.policies.max_new_tokens),
                seed=seed,
                max_prompt_tokens=900,
                timeout_s=600.0,
            ),
        )
        await self._measure(greedily=True)
        await self._look(run, tasks, gauge)
        while self.spent < plan.rollouts:
            await self._rollout(run, episodes, gauge)
            while await self._train(run, learner):
                pass
            self._counts.state(await self.api.view(run.id))
            is_over = self.spent >= plan.rollouts
            if is_over or self.spent >= self._curve[-1].rollouts + plan.eval_every:
                await self._measure(greedily=is_over)
                await self._look(run, tasks, gauge)
        view = await self.api.view(run.id)
        return Cell(
            arm=arm,
            seed=seed,
            plan=asdict(plan),
            curve=self._curve,
            num_groups=sum(one.num_groups for one in view.arms),
            num_informative=sum(one.num_informative for one in view.arms),
            num_versions=self._version,
            num_trained=self._num_trained,
            never_served=1.0 - len(self._served) / run.num_tasks,
            seconds=round(time.monotonic() - began, 1),
            counts=self._counts.document(),
        )

    async def _look(self, run: Run, tasks: Sequence[TaskCreate], gauge: Gauge | None) -> None:
        """What an oracle sees of the training tasks, at no cost to the budget."""
        if gauge is not None:
            await gauge.read()

    async def _create_run(self, arm: str, seed: int, tasks: Sequence[TaskCreate]) -> Run:
        plan = self._plan
        dataset = await self.api.create_dataset(f"real-{arm}-{seed}-{time.time_ns()}", tasks=tasks)
        return await self.api.create_run(
            name=f"{arm}-{seed}",
            dataset_id=dataset,
            curriculum=arm_of(arm).curriculum,
            credit=arm_of(arm).credit,
            group_size=plan.group_size,
            seed=seed,
            limits={"training_batch_groups": plan.batch_groups, "max_group_bytes": 1 << 20},
        )

    async def _rollout(self, run: Run, episodes: Episodes, gauge: Gauge | None) -> None:
        """One batch; an oracle leases more and gives back what it does not want (rule L8)."""
        num = self._plan.tasks_per_batch
        num_leased = num if gauge is None else ORACLE_FACTOR * num
        batch = await self.api.lease(run.id, num_leased, ttl_s=600.0)
        items = batch.items if gauge is None else prefer(batch.items, gauge.value_N, num)
        terms = Terms(
            run_seed=run.seed,
            reward=batch.reward,
            component_weights=reward_weights(batch),
            policy_version=batch.policy_version,
            wants_completions=batch.wants_completions,
        )
        groups = await asyncio.gather(*(episodes.run(item, terms) for item in items))
        for item, group in zip(items, groups, strict=True):
            self._counts.group(item, group.report)
            self.spent += sum(len(attempt.outcomes) for attempt in group.report.attempts)
            self._served.add(group.report.task_id)
            await self.api.reported(batch, self._body(batch, group))
        if len(items) < len(batch.items):
            assert batch.lease is not None
            path = f"/v1/leases/{batch.lease.id}/release"
            response = await self.api.post(path, {"fence": batch.lease.fence})
            assert response.status_code == 200, response.text

    async def _train(self, run: Run, learner: Learner) -> bool:
        """One step, if a training batch is ready."""
        found = frame(await self.api.try_train(run.id))
        if found.manifest.lease is None:
            return False
        vocab_size = learner.policy.vocab_size
        groups = decode_batch(found.manifest, found.bodies, vocab_size=vocab_size).groups
        learn(learner, groups, step=self._version, progress=lambda done, total: None)
        self._version += 1
        self._num_trained += len(groups)
        await self.policies.publish(learner, self._version)
        await self.api.acked(found, self._version)
        return True

    async def _measure(self, *, greedily: bool = False) -> None:
        plan = self._plan
        sampled = await self._answers(temperature=1.0, num=plan.num_samples)
        greedy = await self._answers(temperature=0.0, num=1) if greedily else None
        asked = None
        if greedily and self._ask:
            told = await self._answers(temperature=1.0, num=plan.num_samples, appended=self._ask)
            asked = fmean(told)
        grades: dict[str, list[float]] = {}
        for task, share in zip(self._held_out, sampled, strict=True):
            grades.setdefault(grade_of(task), []).append(share)
        self._curve.append(
            Point(
                rollouts=self.spent,
                version=self._version,
                success=fmean(sampled),
                greedy=None if greedy is None else fmean(greedy),
                by_grade={name: fmean(shares) for name, shares in grades.items()},
                asked=asked,
            )
        )

    async def _answers(self, *, temperature: float, num: int, appended: str = "") -> list[float]:
        """Share of right answers to each held-out task; the same chance every time."""
        found = await answers(
            self.policies, self._held_out, num=num, temperature=temperature, appended=appended
        )
        return [fmean(float(scored.success) for scored in scores) for scores in found]

    def _body(self, batch: PromptBatch, group: FinishedGroup) -> Report | bytes:
        """A group as the rollout service reports it."""
        assert batch.lease is not None
        report = Report(fence=batch.lease.fence, groups=[group.report])
        if group.trajectories is None:
            return report
        return encode_group(self.policies.marker.of(batch)(group.trajectories), report)
