"""Pool `adarft`: candidates nearest to a target difficulty that follows success (2504.05520).

The target T is run-wide: it rises while the policy succeeds in more than half of what it was
given, and falls else. d is 100 (1 - pass rate) with the offline pass rate that the task came with;
ours: a pool instead of the whole dataset, Rbar from the chosen groups' success rate, and `expected`
for tasks without a pass rate. Neighbours: `mopps`, `plr`, `pcl`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field, JsonValue

from etude_sampler.curriculum.candidates import Candidates
from etude_sampler.curriculum.parts import Context, Pool, PoolConfig
from etude_sampler.curriculum.state import FoldInput
from etude_sampler.statistics import Floats

from .expected import expected_success


def next_target(target: float, success: float, *, eta: float, alpha: float, wanted: float) -> float:
    """`clip(T + eta tanh(alpha (Rbar - wanted)), 0, 100)`."""
    return min(100.0, max(0.0, target + eta * math.tanh(alpha * (success - wanted))))


def difficulty(candidates: Candidates) -> Floats:
    """[N] in [0, 100]: `100 (1 - pass rate)`, else by the success that is expected."""
    rate_N = candidates.pass_rate_N
    return 100.0 * (1.0 - np.where(np.isnan(rate_N), expected_success(candidates), rate_N))


@dataclass(frozen=True, slots=True)
class AdarftPool:
    """Keeps those nearest to the target; the target is the part's pace."""

    factor: float
    eta: float
    alpha: float
    wanted: float
    target: float = 0.0
    reads: frozenset[str] = frozenset({"pass_rate", "prediction"})

    def start(self) -> JsonValue:
        """The target before the first version: the easiest tasks."""
        return 0.0

    def advance(self, pace: JsonValue, folded: FoldInput) -> JsonValue:
        """The target after a version; it stays where no chosen group was reported."""
        chosen_N = ~folded.is_control_N
        num_valid = int(folded.num_valid_N[chosen_N].sum())
        if num_valid == 0:
            return pace
        success = int(folded.num_success_N[chosen_N].sum()) / num_valid
        return next_target(
            self.at(pace).target, success, eta=self.eta, alpha=self.alpha, wanted=self.wanted
        )

    def at(self, pace: JsonValue) -> AdarftPool:
        """The pool at a target.

        Raises:
            ValueError: no number.
        """
        if isinstance(pace, bool) or not isinstance(pace, int | float):
            raise ValueError(f"the target of adarft is a number, not {pace!r}")
        return replace(self, target=float(pace))

    def values(self, candidates: Candidates) -> Floats:
        """[N] distances to the target."""
        return np.abs(difficulty(candidates) - self.target)

    def explain(self, candidates: Candidates) -> str:
        """For example `difficulty 75.0, target 33.2`."""
        return f"difficulty {float(difficulty(candidates)[0]):.1f}, target {self.target:.1f}"


class AdarftConfig(PoolConfig):
    """Keep candidates nearest to a target difficulty, which rises while the policy succeeds."""

    name: ClassVar[str] = "adarft"
    paper: ClassVar[str] = "AdaRFT 2504.05520; the pool and what stands in for pass rates ours"
    state: ClassVar[str] = "target; metadata.pass_rate, else predictions, else ema"

    factor: float = Field(default=16.0, ge=1.0, le=64.0)
    """Candidates leased per task asked for; the paper looks at all tasks."""
    eta: float = Field(default=50.0, ge=0.0, le=100.0)
    """Largest move of the target in a version."""
    alpha: float = Field(default=2.0, gt=0.0, le=100.0)
    """How steeply the target follows success."""
    wanted: float = Field(default=0.5, ge=0.0, le=1.0)
    """Success rate at which the target stays."""

    def build(self, context: Context) -> Pool:
        """The pool."""
        return AdarftPool(self.factor, self.eta, self.alpha, self.wanted)
