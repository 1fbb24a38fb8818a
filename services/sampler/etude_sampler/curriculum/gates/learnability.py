"""Gate `learnability`: of the groups rolled out, the best by phat (1 - phat) (section 5).

The score is that of SFL (2408.15099) and LILO (2502.12272), which roll candidates out and keep the
best. Groups come one by one here, not in pools of `factor` times a batch: the bar is the score that
the best `1 / factor` of the run's last groups reached, ties included (our choice). A kept group is
trained on the rollouts that screened it; all rollouts are reported and spent. Neighbours: the
weigher of that name asks the task's past instead, `vcrl` has a fixed bar.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field, JsonValue

from etude_sampler.curriculum.parts import Context, Gate, GateConfig
from etude_sampler.curriculum.state import FoldInput
from etude_sampler.statistics import Bools, Floats, GroupSummary, Ints

_TIE = 1e-9
"""Scores that differ by less are equal: those of m and G - m are, but for rounding."""


def learnability(num_success_N: Ints, num_valid_N: Ints) -> Floats:
    """`phat (1 - phat)` [N] of groups, in [0, 1/4]; 0 without rollouts."""
    share_N = num_success_N / np.maximum(num_valid_N, 1)
    return share_N * (1.0 - share_N)


@dataclass(frozen=True, slots=True)
class LearnabilityGate:
    """Admits groups that score like the best share of the last ones. `binding.Paced`."""

    factor: float
    memory: int
    scores: tuple[float, ...] = ()
    """Of the last `memory` un-scaffolded groups, in apply order."""

    @property
    def bar(self) -> float:
        """The largest score that at least `1 / factor` of the last groups reached; 0: none did."""
        if not self.scores:
            return 0.0
        falling = sorted(self.scores, reverse=True)
        return falling[int(np.ceil(len(falling) / self.factor)) - 1]

    def start(self) -> JsonValue:
        """No group yet."""
        return []

    def advance(self, pace: JsonValue, folded: FoldInput) -> JsonValue:
        """The scores with those of one version."""
        new_N = learnability(folded.num_success_N, folded.num_valid_N)
        return [*_read(pace), *new_N.tolist()][-self.memory :]

    def at(self, pace: JsonValue) -> LearnabilityGate:
        """The gate after these scores."""
        return replace(self, scores=_read(pace))

    def admit(self, summary: GroupSummary) -> Bools:
        """[N]: whether a group has some right, some wrong, and reaches the bar."""
        found_N = learnability(summary.num_success_N, summary.num_valid_N)
        return np.asarray((found_N > 0.0) & (found_N >= self.bar - _TIE), dtype=np.bool_)


def _read(pace: JsonValue) -> tuple[float, ...]:
    """Scores of a pace.

    Raises:
        ValueError: of another shape.
    """
    if not isinstance(pace, list) or not all(isinstance(one, int | float) for one in pace):
        raise ValueError(f"not the pace of gate learnability: {pace!r}")
    return tuple(float(one) for one in pace if isinstance(one, int | float))


class LearnabilityGateConfig(GateConfig):
    """Admit a group if its p (1 - p) is among the best 1 / factor of the last groups."""

    name: ClassVar[str] = "learnability"
    paper: ClassVar[str] = "score of SFL 2408.15099, LILO 2502.12272; bar of a stream ours"
    state: ClassVar[str] = "scores of the run's last groups"

    factor: float = Field(default=4.0, ge=1.0, le=64.0)
    """Groups rolled out per group kept."""
    memory: int = Field(default=256, ge=1, le=4096)
    """Last groups of the run that the bar follows (our choice)."""

    def build(self, context: Context) -> Gate:
        """The gate before the first version."""
        return LearnabilityGate(self.factor, self.memory)
