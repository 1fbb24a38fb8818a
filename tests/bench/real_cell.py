"""One cell of the comparison on a real learner: one strategy, one seed, a budget of rollouts.

Everything is real and in this process: the sampler on PostgreSQL and Valkey, the rollout service's
episodes on its `transformers` engine, ToolRL's reward, the trainer's GRPO step. Only the services'
loops are left out: leasing, generating, training and loading weights take turns, so that a cell is
reproducible and an arm gains nothing by being faster. Used by `real_learner.py`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from real_arms import arm_of, training_config
from real_tasks import training_tasks

from etude_proto.tensors import encode_group
from etude_proto.v1 import PromptBatch, Report, Run, TaskCreate
from etude_rollout.engines.base import GenerationRequest, Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.episode import EpisodeOptions, Episodes, FinishedGroup, Terms
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer
from etude_rollout.rewards import RewardConfig, gold_from_task, score_completion
from etude_rollout.spans import Marker, decoder, reward_weights
from etude_trainer.batch import decode_batch
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner, learn
from etude_trainer.weight_files import publishable, write_weights
from support.sampler_app import Api, frame

MAX_NEW_TOKENS = 56


@dataclass(frozen=True, slots=True)
class CellPlan:
    """What all cells of a comparison share."""

    rollouts: int = 8192
    """Budget: every rollout for training counts, those of dropped groups too."""
    num_tasks: int = 192
    group_size: int = 8
    tasks_per_batch: int = 16
    batch_groups: int = 16
    lr: float = 1e-3
    eval_every: int = 1024
    """Rollouts between two measurements."""
    num_held_out: int = 120
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


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one cell."""

    arm: str
    seed: int
    plan: dict[str, int | float]
    curve: list[Point]
    num_groups: int
    num_informative: int
    num_versions: int
    num_trained: int
    """Groups that were trained on."""
    never_served: float
    """Share of the training tasks that were never served."""
    seconds: float


class Policies:
    """The engine, its prompts, and where weights pass from trainer to engine."""

    def __init__(self, model_dir: Path, engine: TransformersEngine) -> None:
        self.model_dir = model_dir
        self.engine = engine
        tokenizer = load_tokenizer(model_dir)
        self.prompter = Prompter(tokenizer, PromptOptions(explain_format=False))
        self.marker = Marker(decoder(tokenizer))
        self._folder = tempfile.TemporaryDirectory(prefix="etude-real-")

    async def publish(self, learner: Learner, version: int) -> None:
        """Bring the engine to the learner's weights."""
        directory = Path(self._folder.name)
        write_weights(publishable(learner.policy), directory / "model.safetensors")
        await self.engine.load_weights(directory, version=version)

    async def reset(self) -> None:
        """Bring the engine back to where every cell begins."""
        await self.engine.load_weights(self.model_dir, version=0)

    async def close(self) -> None:
        """Stop the engine."""
        await self.engine.close()
        self._folder.cleanup()


class CellRun:
    """Runs one cell."""

    def __init__(
        self, api: Api, policies: Policies, plan: CellPlan, *, held_out: Sequence[TaskCreate]
    ) -> None:
        self._api = api
        self._policies = policies
        self._plan = plan
        self._held_out = held_out
        self._curve: list[Point] = []
        self._spent = self._version = self._num_trained = 0
        self._served: set[str] = set()

    async def run(self, arm: str, seed: int) -> Cell:
        """Train until the budget is spent."""
        began = time.monotonic()
        plan = self._plan
        torch.manual_seed(seed)
        await self._policies.reset()
        learner = build_learner(
            self._policies.model_dir, training_config(plan.lr, arm_of(arm)), device="cpu"
        )
        run = await self._create_run(arm, seed)
        episodes = Episodes(
            self._policies.engine,
            self._policies.prompter,
            EpisodeOptions(
                sampling=Sampling(max_new_tokens=MAX_NEW_TOKENS),
                seed=seed,
                max_prompt_tokens=900,
                timeout_s=600.0,
            ),
        )
        await self._measure(greedily=True)
        while self._spent < plan.rollouts:
            await self._rollout(run, episodes)
            while await self._train(run, learner):
                pass
            is_over = self._spent >= plan.rollouts
            if is_over or self._spent >= self._curve[-1].rollouts + plan.eval_every:
                await self._measure(greedily=is_over)
        view = await self._api.view(run.id)
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
        )

    async def _create_run(self, arm: str, seed: int) -> Run:
        plan = self._plan
        tasks = training_tasks(seed, plan.num_tasks)
        dataset = await self._api.create_dataset(f"real-{arm}-{seed}-{time.time_ns()}", tasks=tasks)
        return await self._api.create_run(
            name=f"{arm}-{seed}",
            dataset_id=dataset,
            curriculum=arm_of(arm).curriculum,
            credit=arm_of(arm).credit,
            group_size=plan.group_size,
            seed=seed,
            limits={"training_batch_groups": plan.batch_groups, "max_group_bytes": 1 << 20},
        )

    async def _rollout(self, run: Run, episodes: Episodes) -> None:
        batch = await self._api.lease(run.id, self._plan.tasks_per_batch, ttl_s=600.0)
        terms = Terms(
            run_seed=run.seed,
            reward=batch.reward,
            component_weights=reward_weights(batch),
            policy_version=batch.policy_version,
        )
        groups = await asyncio.gather(*(episodes.run(item, terms) for item in batch.items))
        for group in groups:
            self._spent += sum(len(attempt.outcomes) for attempt in group.report.attempts)
            self._served.add(group.report.task_id)
            await self._api.reported(batch, self._body(batch, group))

    async def _train(self, run: Run, learner: Learner) -> bool:
        """One step, if a training batch is ready."""
        found = frame(await self._api.try_train(run.id))
        if found.manifest.lease is None:
            return False
        vocab_size = learner.policy.vocab_size
        groups = decode_batch(found.manifest, found.bodies, vocab_size=vocab_size).groups
        learn(learner, groups, step=self._version, progress=lambda done, total: None)
        self._version += 1
        self._num_trained += len(groups)
        await self._policies.publish(learner, self._version)
        await self._api.acked(found, self._version)
        return True

    async def _measure(self, *, greedily: bool = False) -> None:
        plan = self._plan
        sampled = await self._answers(temperature=1.0, num=plan.num_samples)
        greedy = await self._answers(temperature=0.0, num=1) if greedily else None
        grades: dict[str, list[float]] = {}
        for task, share in zip(self._held_out, sampled, strict=True):
            grades.setdefault(task.source, []).append(share)
        self._curve.append(
            Point(
                rollouts=self._spent,
                version=self._version,
                success=fmean(sampled),
                greedy=None if greedy is None else fmean(greedy),
                by_grade={name: fmean(shares) for name, shares in grades.items()},
            )
        )

    async def _answers(self, *, temperature: float, num: int) -> list[float]:
        """Share of right answers to each held-out task; the same chance every time."""
        return await asyncio.gather(
            *(
                self._answer(task, number, temperature=temperature, num=num)
                for number, task in enumerate(self._held_out)
            )
        )

    async def _answer(
        self, task: TaskCreate, number: int, *, temperature: float, num: int
    ) -> float:
        assert task.reference is not None
        prompt = self._policies.prompter.render(task.messages, task.tools)
        request = GenerationRequest(
            prompt_ids=prompt.token_ids,
            num_completions=num,
            sampling=Sampling(max_new_tokens=MAX_NEW_TOKENS, temperature=temperature),
            seed=number,
        )
        completions = await self._policies.engine.generate(request)
        gold = gold_from_task(task.reference.model_dump(mode="json"), mode="robust")
        config = RewardConfig(mode="robust")
        scores = [score_completion(one.text, gold, config=config) for one in completions]
        return fmean(float(scored.success) for scored in scores)

    def _body(self, batch: PromptBatch, group: FinishedGroup) -> Report | bytes:
        """A group as the rollout service reports it."""
        assert batch.lease is not None
        report = Report(fence=batch.lease.fence, groups=[group.report])
        if group.trajectories is None:
            return report
        return encode_group(self._policies.marker.of(batch)(group.trajectories), report)
