"""One task's group: its rollouts, help for those that failed, the report.

`rolling.py` renders, generates and scores, `phases.py` decides how many rollouts there are,
`climbing.py` what is tried when they fail; tasks with an environment go to `turns/`. Whatever fails
that is not the policy's doing becomes an outcome with finish reason `error` or `timeout` and no
reward. Called by `batch.py` for every task of a prompt batch; knows neither leases nor HTTP.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from etude_proto.tensors import GroupTrajectories
from etude_proto.v1 import Attempt, FinishReason, GroupReport, Outcome, PromptItem

from .climbing import climb
from .engines.base import Completion, Engine
from .finished import FinishedGroup
from .guiding import guided, with_completion
from .kit import EpisodeOptions, Kit, Terms
from .outcomes import failure, outcomes_of
from .phases import EpisodeFailed, Rolled, first_phase, roll_out
from .prompting import Prompt, Prompter
from .rolling import Roller, Sample, rollout_seed
from .trajectories import pack, pack_rollouts
from .turns.tabling import TurnEpisodes

__all__ = ["EpisodeOptions", "Episodes", "FinishedGroup", "Terms", "rollout_seed"]

_log = logging.getLogger(__name__)


class Episodes:
    """Makes groups with one engine and one prompter."""

    def __init__(
        self,
        engine: Engine,
        prompter: Prompter,
        options: EpisodeOptions,
        turns: TurnEpisodes | None = None,
    ) -> None:
        """
        Args:
            turns: plays the tasks that have an environment; None: such tasks are refused.
        """
        self._kit = Kit(engine, prompter, options)
        self._turns = turns

    async def run(self, item: PromptItem, terms: Terms) -> FinishedGroup:
        """The group of one task.

        Raises:
            EngineUnavailable: the engine is away; nothing is known about the task.
        """
        started = time.monotonic()
        try:
            if item.task.environment is not None:
                if self._turns is None:
                    raise EpisodeFailed(FinishReason.ERROR, "this worker plays no environments")
                return await self._turns.run(item, terms)
            roller = Roller(self._kit, item, terms)
            longest = self._kit.options.max_prompt_tokens
            item, prompt = guided(roller, item, max_prompt_tokens=longest)
            rolled = await roll_out(
                item,
                lambda num, first: roller.generate(prompt, num, first=first),
                lambda made: roller.score(made, prompt),
            )
        except EpisodeFailed as failed:
            _log.warning(
                "episode.failed",
                extra={"task": item.task.id, "reason": failed.reason, "detail": failed.detail},
            )
            return _failed_group(item, failed.reason, time.monotonic() - started)
        samples = roller.samples(prompt, rolled.completions, rolled.scores)
        if item.ladder is not None and item.train and not rolled.is_stopped:
            climbed = await self._climbed(roller, item, rolled, samples)
            if climbed is not None:
                return climbed
        outcomes = outcomes_of(samples, item.task)
        if terms.wants_completions:
            outcomes = with_completion(outcomes, samples)
        if rolled.failure is not None:
            outcomes += [failure(rolled.failure.reason)] * rolled.num_lost
        return FinishedGroup(
            report=_report(item, outcomes),
            trajectories=_cargo(item, prompt, rolled),
            scores=tuple(rolled.scores),
            generate_s=rolled.generate_s,
            score_s=rolled.score_s,
        )

    async def _climbed(
        self,
        roller: Roller,
        item: PromptItem,
        rolled: Rolled[Completion],
        samples: Sequence[Sample],
    ) -> FinishedGroup | None:
        """The group after a climb; None if there was nothing to climb for."""
        started = time.monotonic()
        climbed = await climb(roller, item, samples)
        if climbed is None:
            return None
        return FinishedGroup(
            report=GroupReport(task_id=item.task.id, attempts=climbed.attempts),
            trajectories=pack_rollouts(climbed.trained),
            scores=(*rolled.scores, *(sample.scored for sample in climbed.scored)),
            generate_s=rolled.generate_s + time.monotonic() - started,
            score_s=rolled.score_s,
        )


def _cargo(
    item: PromptItem, prompt: Prompt, rolled: Rolled[Completion]
) -> GroupTrajectories | None:
    if not item.train or rolled.is_stopped:
        return None
    return pack(prompt.token_ids, [*rolled.completions, *[None] * rolled.num_lost])


def _failed_group(item: PromptItem, reason: FinishReason, seconds: float) -> FinishedGroup:
    report = _report(item, [failure(reason)] * first_phase(item))
    return FinishedGroup(report, None, (), seconds, 0.0)


def _report(item: PromptItem, outcomes: list[Outcome]) -> GroupReport:
    attempt = Attempt(
        scaffold_kind=item.scaffold.kind, scaffold_level=item.scaffold.level, outcomes=outcomes
    )
    return GroupReport(task_id=item.task.id, attempts=[attempt])
