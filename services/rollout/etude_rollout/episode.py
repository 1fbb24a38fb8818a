"""One task's group: render the prompt, generate its completions, score them, write the report.

Single-turn in this release: one completion is a whole rollout. Whatever fails that is not the
policy's doing becomes an outcome with finish reason `error` or `timeout` and no reward; it is never
scored 0. Called by `batch.py` for every task of a prompt batch; knows neither leases nor HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etude_proto.tensors import GroupTrajectories
from etude_proto.v1 import (
    Attempt,
    FinishReason,
    GroupReport,
    Outcome,
    PromptItem,
    RewardSpec,
    Task,
)

from .engines.base import (
    Completion,
    Engine,
    EngineError,
    EngineUnavailable,
    GenerationRequest,
    Sampling,
)
from .phases import EpisodeFailed, first_phase, roll_out
from .prompting import Prompt, Prompter, PromptError
from .rewards import (
    Gold,
    GoldError,
    RewardConfig,
    RewardConfigError,
    Scored,
    gold_from_task,
    score_completion,
)
from .trajectories import pack

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EpisodeOptions:
    """How every group of this worker is made."""

    sampling: Sampling
    seed: int
    max_prompt_tokens: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What the run and the prompt batch say about its groups."""

    run_seed: int
    reward: RewardSpec
    component_weights: Mapping[str, float]
    policy_version: int
    """The run's version when the batch was leased; its steps start at 1."""


@dataclass(frozen=True, slots=True)
class FinishedGroup:
    """A group, ready to be reported."""

    report: GroupReport
    trajectories: GroupTrajectories | None
    """Null when no rollout has a completion, or the group is not to be trained on."""
    scores: tuple[Scored, ...]
    """Of the rollouts that have a completion."""
    generate_s: float
    score_s: float

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """One per rollout."""
        return self.report.attempts[-1].outcomes


class Episodes:
    """Makes groups with one engine and one prompter."""

    def __init__(self, engine: Engine, prompter: Prompter, options: EpisodeOptions) -> None:
        self._engine = engine
        self._prompter = prompter
        self._options = options

    async def run(self, item: PromptItem, terms: Terms) -> FinishedGroup:
        """The group of one task.

        Raises:
            EngineUnavailable: the engine is away; nothing is known about the task.
        """
        started = time.monotonic()
        try:
            gold, config = _reward(item.task, terms)
            prompt = self._prompt(item)
            rolled = await roll_out(
                item,
                lambda num, first: self._generate(item, prompt, terms, num=num, first=first),
                lambda made: self._score(made, prompt, gold, config=config, terms=terms),
            )
        except EpisodeFailed as failure:
            _log.warning(
                "episode.failed",
                extra={"task": item.task.id, "reason": failure.reason, "detail": failure.detail},
            )
            return _failed_group(item, failure.reason, time.monotonic() - started)
        outcomes = [
            _outcome(completion, scored, item.task)
            for completion, scored in zip(rolled.completions, rolled.scores, strict=True)
        ]
        if rolled.failure is not None:
            outcomes += [_failure(rolled.failure.reason)] * rolled.num_lost
        cargo = None
        if item.train and not rolled.is_stopped:
            cargo = pack(prompt.token_ids, [*rolled.completions, *[None] * rolled.num_lost])
        return FinishedGroup(
            report=_report(item, outcomes),
            trajectories=cargo,
            scores=tuple(rolled.scores),
            generate_s=rolled.generate_s,
            score_s=rolled.score_s,
        )

    def _prompt(self, item: PromptItem) -> Prompt:
        if item.scaffold.level > 0:
            raise EpisodeFailed(
                FinishReason.ERROR, f"scaffold {item.scaffold.kind!r} is not known to this worker"
            )
        try:
            prompt = self._prompter.render(item.task.messages, item.task.tools)
        except PromptError as error:
            raise EpisodeFailed(FinishReason.ERROR, str(error)) from error
        if len(prompt.token_ids) > self._options.max_prompt_tokens:
            raise EpisodeFailed(
                FinishReason.ERROR,
                f"the prompt has {len(prompt.token_ids)} tokens, "
                f"more than {self._options.max_prompt_tokens}",
            )
        return prompt

    async def _generate(
        self, item: PromptItem, prompt: Prompt, terms: Terms, *, num: int, first: int
    ) -> tuple[Completion, ...]:
        request = GenerationRequest(
            prompt_ids=prompt.token_ids,
            num_completions=num,
            first=first,
            sampling=self._options.sampling,
            seed=rollout_seed(self._options.seed, terms.run_seed, item),
        )
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await self._engine.generate(request)
        except TimeoutError as error:
            raise EpisodeFailed(
                FinishReason.TIMEOUT, f"no completions within {self._options.timeout_s:g} s"
            ) from error
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise EpisodeFailed(FinishReason.ERROR, str(error)) from error

    async def _score(
        self,
        completions: Sequence[Completion],
        prompt: Prompt,
        gold: Gold,
        *,
        config: RewardConfig,
        terms: Terms,
    ) -> list[Scored]:
        try:
            return await asyncio.to_thread(
                score_all, completions, prompt=prompt, gold=gold, config=config, terms=terms
            )
        except ValueError as error:  # weights or switches that do not go together
            raise EpisodeFailed(FinishReason.ERROR, str(error)) from error


def rollout_seed(worker_seed: int, run_seed: int, item: PromptItem) -> int:
    """Seed of a group: another for every draw of a task, the same when the run is repeated."""
    text = f"{worker_seed}/{run_seed}/{item.task.id}/{item.entry}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def score_all(
    completions: Sequence[Completion],
    *,
    prompt: Prompt,
    gold: Gold,
    config: RewardConfig,
    terms: Terms,
) -> list[Scored]:
    """Scores in the order of the completions; what was prefilled counts as said."""
    return [
        score_completion(
            prompt.prefill + completion.text,
            gold,
            config=config,
            component_weights=terms.component_weights,
            step=terms.policy_version + 1,
        )
        for completion in completions
    ]


def _reward(task: Task, terms: Terms) -> tuple[Gold, RewardConfig]:
    """
    Raises:
        EpisodeFailed: the task has no gold, or an unusable one.
    """
    if task.reference is None:
        raise EpisodeFailed(FinishReason.ERROR, "the task has no reference to score against")
    spec = terms.reward
    try:
        config = RewardConfig(kind=spec.kind, mode=spec.mode, switches=tuple(spec.switches))
        return gold_from_task(task.reference.model_dump(mode="json"), mode=spec.mode), config
    except (GoldError, RewardConfigError) as error:
        raise EpisodeFailed(FinishReason.ERROR, str(error)) from error


def _outcome(completion: Completion, scored: Scored, task: Task) -> Outcome:
    if not completion.finish_reason.is_valid:
        return _failure(completion.finish_reason)
    # A sub-task that is no reward component is a category: its component is success
    # (algorithms.md 3.1).
    categories = {name: float(scored.success) for name in task.subtasks}
    return Outcome(
        components={**categories, **scored.components},
        reward=scored.total,
        success=scored.success,
        finish_reason=completion.finish_reason,
        num_tokens=len(completion.token_ids),
        min_policy_version=min(completion.versions, default=0),
        max_policy_version=max(completion.versions, default=0),
    )


def _failed_group(item: PromptItem, reason: FinishReason, seconds: float) -> FinishedGroup:
    report = _report(item, [_failure(reason)] * first_phase(item))
    return FinishedGroup(report, None, (), seconds, 0.0)


def _failure(reason: FinishReason) -> Outcome:
    """An outcome that says nothing about the policy: no components, and no reward to fold."""
    return Outcome(components={}, reward=0.0, success=False, finish_reason=reason, num_turns=0)


def _report(item: PromptItem, outcomes: list[Outcome]) -> GroupReport:
    attempt = Attempt(
        scaffold_kind=item.scaffold.kind, scaffold_level=item.scaffold.level, outcomes=outcomes
    )
    return GroupReport(task_id=item.task.id, attempts=[attempt])
