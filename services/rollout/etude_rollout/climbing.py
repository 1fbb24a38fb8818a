"""Ladders: what is done for a task whose rollouts failed (algorithms.md, section 6).

`hints` put one hinted success in the place of a failure, `prefix` replaces the group, `reflect`
lets every failed rollout try again (`reflecting.py`). Every rung is an attempt of its own in the
report, so that the sampler keeps un-scaffolded statistics pure. Called by `episode.py`, inside the
lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from etude_proto.v1 import Attempt, Ladder, Merge, PromptItem, Rung

from .outcomes import outcomes_of
from .phases import EpisodeFailed
from .prompting import Prompt
from .reflecting import reflected
from .rolling import Roller, Sample
from .trajectories import Rollout

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Climbed:
    """A task's attempts, the last of them the one to train on, and its rollouts."""

    attempts: list[Attempt]
    trained: list[Rollout]
    """One per outcome of the last attempt."""
    scored: list[Sample] = field(default_factory=list)
    """Every further rollout that was made."""


async def climb(roller: Roller, item: PromptItem, group: Sequence[Sample]) -> Climbed | None:
    """Climb the item's ladder; None where there is nothing to climb for.

    Infrastructure that fails ends the climb; what was made before is reported.

    Raises:
        EngineUnavailable: the engine is away.
    """
    ladder = item.ladder
    if ladder is None or not ladder.rungs:
        return None
    bare = Attempt(
        scaffold_kind=item.scaffold.kind,
        scaffold_level=item.scaffold.level,
        outcomes=outcomes_of(group, item.task),
    )
    if ladder.merge is Merge.APPEND_TURN:
        turns = await reflected(roller, ladder, group, task=item.task)
        if turns is None:
            return None
        return Climbed([bare, *turns.attempts, turns.merged], turns.trained, turns.made)
    valid = [sample for sample in group if sample.is_valid]
    if not valid or any(sample.scored.success for sample in valid):
        return None
    tried = await _rungs(roller, ladder)
    made = [sample for _, samples in tried for sample in samples]
    attempts = [
        Attempt(
            scaffold_kind=ladder.kind,
            scaffold_level=rung.level,
            outcomes=outcomes_of(samples, item.task),
        )
        for rung, samples in tried
    ]
    best = next((i for i, (_, samples) in enumerate(tried) if _successes(samples)), None)
    if best is None:
        return Climbed([*attempts, bare], _rollouts(group), made)
    rung, samples = tried[best]
    if ladder.merge is Merge.REPLACE_ALL:
        won = attempts.pop(best)
        return Climbed([bare, *attempts, won], _rollouts(samples), made)
    merged = replace_one(group, _successes(samples)[0], seed=roller.seed("replace"))
    attempt = Attempt(
        scaffold_kind=ladder.kind,
        scaffold_level=rung.level,
        number=1,
        outcomes=outcomes_of(merged, item.task),
        merged=True,
    )
    return Climbed([bare, *attempts, attempt], _rollouts(merged), made)


def replace_one(group: Sequence[Sample], success: Sample, *, seed: int) -> list[Sample]:
    """The group with a success in the place of one failure; a seeded choice among the valid."""
    failed = [i for i, sample in enumerate(group) if sample.is_valid and not sample.scored.success]
    merged = list(group)
    merged[failed[seed % len(failed)]] = success
    return merged


async def _rungs(roller: Roller, ladder: Ladder) -> list[tuple[Rung, list[Sample]]]:
    """The rungs that were rolled out, lowest first, up to a success or a failure."""
    shown = [(rung, prompt) for rung in ladder.rungs if (prompt := _prompt(roller, ladder, rung))]
    if not ladder.at_once:
        tried = []
        for rung, prompt in shown:
            samples = await _rolled(roller, ladder, rung, prompt=prompt)
            if samples is None:
                break
            tried.append((rung, samples))
            if _successes(samples):
                break
        return tried
    made = await asyncio.gather(
        *(_rolled(roller, ladder, rung, prompt=prompt) for rung, prompt in shown)
    )
    pairs = zip(shown, made, strict=True)
    return [(rung, samples) for (rung, _), samples in pairs if samples is not None]


def _prompt(roller: Roller, ladder: Ladder, rung: Rung) -> Prompt | None:
    """What a rung shows; None if it is too long for this worker."""
    try:
        if ladder.merge is Merge.REPLACE_ALL:
            return roller.prompt(turns=rung.turns, prefix=rung.text)
        return roller.prompt(appended=rung.text)
    except EpisodeFailed as failure:
        _log.info("rung.left_out", extra={"level": rung.level, "detail": failure.detail})
        return None


async def _rolled(
    roller: Roller, ladder: Ladder, rung: Rung, *, prompt: Prompt
) -> list[Sample] | None:
    """A rung's rollouts; None if infrastructure failed."""
    stream = f"{ladder.kind}/{rung.level}"
    try:
        return await roller.sample(prompt, ladder.num_rollouts, stream=stream)
    except EpisodeFailed as failure:
        _log.warning(
            "rung.failed",
            extra={"kind": ladder.kind, "level": rung.level, "detail": failure.detail},
        )
        return None


def _successes(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.is_valid and sample.scored.success]


def _rollouts(samples: Sequence[Sample]) -> list[Rollout]:
    return [Rollout(sample.prompt.token_ids, sample.completion) for sample in samples]
