"""Scaffold `reflect`: failed rollouts reflect and try again (attributed to RetroAct, section 6).

The previous attempt stays in the dialogue, a turn asks what went wrong, another asks for a new
answer. Which reward goes where (second attempt: its own; reflection: second minus first) is
reported of 2503.01490 by others; the words, and that both are groups of their own, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from etude_proto.v1 import Ladder, Merge, Rung
from etude_sampler.curriculum.parts import Context, ScaffoldConfig
from etude_sampler.curriculum.scaffolding import Scaffolding, Served, Situation

from .plain import PlainScaffolding

ASK = (
    "That answer was not right. Say in a few sentences what went wrong and what you would do "
    "differently. Do not answer the request yet."
)
AGAIN = "Now answer the request again, in the same output format as before."


@dataclass(frozen=True, slots=True)
class ReflectScaffolding(PlainScaffolding):
    """Serves the same turns to every task."""

    ladder: Ladder | None = None

    def largest(self, group_size: int) -> int:
        """A planner and a reflection an attempt more, for every rollout."""
        assert self.ladder is not None
        return group_size * (1 + len(self.ladder.rungs))

    def serve(self, task: Situation) -> Served:
        """The ladder of reflections."""
        return Served(ladder=self.ladder)


class ReflectConfig(ScaffoldConfig):
    """Each failed rollout: a reflection on what went wrong, and another attempt; both trained."""

    name: ClassVar[str] = "reflect"
    paper: ClassVar[str] = "design input: RetroAct 2503.01490"
    in_episodes: ClassVar[bool] = False

    attempts: int = Field(default=2, ge=2, le=8)
    """Attempts of a rollout in all, the first included; level n is the attempt after n others."""
    ask: str = Field(default=ASK, min_length=1, max_length=4096)
    """The user's turn that asks for a reflection."""
    again: str = Field(default=AGAIN, min_length=1, max_length=4096)
    """The user's turn that asks for another attempt."""

    def build(self, context: Context) -> Scaffolding:
        """The scaffold."""
        rungs = [
            Rung(level=level, text=self.ask, again=self.again) for level in range(1, self.attempts)
        ]
        ladder = Ladder(kind=self.name, merge=Merge.APPEND_TURN, num_rollouts=1, rungs=rungs)
        return ReflectScaffolding(kind=self.name, ladder=ladder)
