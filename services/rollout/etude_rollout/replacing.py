"""Hints and prefixes: what is tried for a group without a success (algorithms.md, section 6).

`hints` put one hinted success in the place of a failure, `prefix` replaces the group. Rungs are
tried lowest first, each an attempt of its own in the report. What a rollout is, a completion or an
episode of several turns, is the caller's business: `climbing.py` and `turns/trying.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from etude_proto.v1 import Attempt, Ladder, Merge, Message, Outcome, Rung

from .phases import EpisodeFailed
from .prompting import Prompt

_log = logging.getLogger(__name__)


class Tried(Protocol):
    """One rollout, as a climb sees it."""

    @property
    def is_valid(self) -> bool:
        """Whether it says something about the policy."""

    @property
    def is_right(self) -> bool:
        """Whether it succeeded."""


TriedT = TypeVar("TriedT", bound=Tried)


class Tries(Protocol[TriedT]):
    """Makes rollouts of one task with whatever prompt."""

    def prompt(
        self, *, appended: str = "", turns: Sequence[Message] = (), prefix: str = ""
    ) -> Prompt:
        """The task's prompt, with help; see `Roller.prompt`. Raises `EpisodeFailed`."""

    async def sample(self, prompt: Prompt, num: int, *, stream: str) -> list[TriedT]:
        """`num` rollouts of a prompt, scored. Raises `EpisodeFailed`, `EngineUnavailable`."""

    def seed(self, stream: str = "") -> int:
        """Seed of the group, or of one of its further streams."""


@dataclass(frozen=True, slots=True)
class Replaced(Generic[TriedT]):
    """A task's attempts, the last of them the one to train on, and its rollouts."""

    attempts: list[Attempt]
    trained: list[TriedT]
    """One per outcome of the last attempt."""
    made: list[TriedT]
    """Every further rollout that was made."""


async def replaced(
    tries: Tries[TriedT],
    ladder: Ladder,
    group: Sequence[TriedT],
    *,
    bare: Attempt,
    outcomes: Callable[[Sequence[TriedT]], list[Outcome]],
) -> Replaced[TriedT] | None:
    """Climb a ladder that replaces rollouts; None where there is nothing to climb for.

    Infrastructure that fails ends the climb; what was made before is reported.

    Args:
        bare: the report of `group`.
        outcomes: what is reported of rollouts.

    Raises:
        EngineUnavailable: the engine is away.
    """
    valid = [sample for sample in group if sample.is_valid]
    if not valid or any(sample.is_right for sample in valid):
        return None
    tried = await _rungs(tries, ladder)
    made = [sample for _, samples in tried for sample in samples]
    attempts = [
        Attempt(scaffold_kind=ladder.kind, scaffold_level=rung.level, outcomes=outcomes(samples))
        for rung, samples in tried
    ]
    best = next((i for i, (_, samples) in enumerate(tried) if _successes(samples)), None)
    if best is None:
        return Replaced([*attempts, bare], list(group), made)
    rung, samples = tried[best]
    if ladder.merge is Merge.REPLACE_ALL:
        won = attempts.pop(best)
        return Replaced([bare, *attempts, won], samples, made)
    merged = replace_one(group, _successes(samples)[0], seed=tries.seed("replace"))
    attempt = Attempt(
        scaffold_kind=ladder.kind,
        scaffold_level=rung.level,
        number=1,
        outcomes=outcomes(merged),
        merged=True,
    )
    return Replaced([bare, *attempts, attempt], merged, made)


def replace_one(group: Sequence[TriedT], success: TriedT, *, seed: int) -> list[TriedT]:
    """The group with a success in the place of one failure; a seeded choice among the valid."""
    failed = [i for i, sample in enumerate(group) if sample.is_valid and not sample.is_right]
    merged = list(group)
    merged[failed[seed % len(failed)]] = success
    return merged


async def _rungs(tries: Tries[TriedT], ladder: Ladder) -> list[tuple[Rung, list[TriedT]]]:
    """The rungs that were rolled out, lowest first, up to a success or a failure."""
    shown = [(rung, prompt) for rung in ladder.rungs if (prompt := _prompt(tries, ladder, rung))]
    if not ladder.at_once:
        tried = []
        for rung, prompt in shown:
            samples = await _rolled(tries, ladder, rung, prompt=prompt)
            if samples is None:
                break
            tried.append((rung, samples))
            if _successes(samples):
                break
        return tried
    made = await asyncio.gather(
        *(_rolled(tries, ladder, rung, prompt=prompt) for rung, prompt in shown)
    )
    pairs = zip(shown, made, strict=True)
    return [(rung, samples) for (rung, _), samples in pairs if samples is not None]


def _prompt(tries: Tries[TriedT], ladder: Ladder, rung: Rung) -> Prompt | None:
    """What a rung shows; None if it cannot be shown, or is too long for this worker."""
    try:
        if ladder.merge is Merge.REPLACE_ALL:
            return tries.prompt(turns=rung.turns, prefix=rung.text)
        return tries.prompt(appended=rung.text)
    except EpisodeFailed as failure:
        _log.info("rung.left_out", extra={"level": rung.level, "detail": failure.detail})
        return None


async def _rolled(
    tries: Tries[TriedT], ladder: Ladder, rung: Rung, *, prompt: Prompt
) -> list[TriedT] | None:
    """A rung's rollouts; None if infrastructure failed."""
    stream = f"{ladder.kind}/{rung.level}"
    try:
        return await tries.sample(prompt, ladder.num_rollouts, stream=stream)
    except EpisodeFailed as failure:
        _log.warning(
            "rung.failed",
            extra={"kind": ladder.kind, "level": rung.level, "detail": failure.detail},
        )
        return None


def _successes(samples: Sequence[TriedT]) -> list[TriedT]:
    return [sample for sample in samples if sample.is_valid and sample.is_right]
