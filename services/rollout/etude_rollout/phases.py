"""How a task's rollouts are made: all at once, or in two phases where the first one decides.

A screened task (`PromptItem.screen`) gets a few rollouts; only if some of them are right and some
wrong are the others made, inside the same lease. Called by `episode.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from etude_proto.v1 import FinishReason, PromptItem

from .rewards import Scored

_log = logging.getLogger(__name__)


class Made(Protocol):
    """A completion, or an episode of several."""

    @property
    def finish_reason(self) -> FinishReason:
        """How it ended."""


MadeT = TypeVar("MadeT", bound=Made)
Generate = Callable[[int, int], Awaitable[Sequence[MadeT]]]
"""Make so many completions, the first of them with this number in the group."""
Score = Callable[[Sequence[MadeT]], Awaitable[Sequence[Scored]]]


class EpisodeFailed(Exception):
    """No rollout of this task can be made or scored; infrastructure, not policy."""

    def __init__(self, reason: FinishReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class Rolled(Generic[MadeT]):
    """The rollouts of one task with one prompt."""

    completions: list[MadeT]
    scores: list[Scored]
    """One per completion."""
    generate_s: float = 0.0
    score_s: float = 0.0
    is_stopped: bool = False
    """The first phase was enough; not to be trained on."""
    num_lost: int = 0
    """Rollouts of the second phase that failed as a whole."""
    failure: EpisodeFailed | None = None
    """Why they did."""


async def roll_out(
    item: PromptItem, generate: Generate[MadeT], score: Score[MadeT]
) -> Rolled[MadeT]:
    """All rollouts that the task is to get.

    A second phase that fails does not take the first one with it: what is known is reported.

    Raises:
        EpisodeFailed: the first phase could not be made or scored.
        EngineUnavailable: the engine is away; nothing is known about the task.
    """
    rolled: Rolled[MadeT] = Rolled([], [])
    num_first = first_phase(item)
    await _phase(rolled, generate, score, num=num_first)
    if item.screen is None:
        return rolled
    if not is_mixed(rolled.completions, rolled.scores):
        rolled.is_stopped = True
        return rolled
    num_more = item.num_rollouts - num_first
    try:
        await _phase(rolled, generate, score, num=num_more)
    except EpisodeFailed as failure:
        rolled.num_lost, rolled.failure = num_more, failure
        _log.warning(
            "episode.second_phase_failed",
            extra={"task": item.task.id, "reason": failure.reason, "detail": failure.detail},
        )
    return rolled


def first_phase(item: PromptItem) -> int:
    """Rollouts to make before anything is decided."""
    return item.num_rollouts if item.screen is None else item.screen.num_rollouts


def is_mixed(completions: Sequence[Made], scores: Sequence[Scored]) -> bool:
    """Whether some valid rollouts succeed and some do not."""
    right = [
        scored.success
        for completion, scored in zip(completions, scores, strict=True)
        if completion.finish_reason.is_valid
    ]
    return 0 < sum(right) < len(right)


async def _phase(
    rolled: Rolled[MadeT], generate: Generate[MadeT], score: Score[MadeT], *, num: int
) -> None:
    """Make and score `num` more rollouts."""
    started = time.monotonic()
    made = await generate(num, len(rolled.completions))
    generated = time.monotonic()
    scores = await score(made)
    rolled.completions += made
    rolled.scores += scores
    rolled.generate_s += generated - started
    rolled.score_s += time.monotonic() - generated
