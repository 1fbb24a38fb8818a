"""Pool `mopps`: candidates whose drawn success rate is nearest one half (2507.04632, section 5).

Each task has a belief Beta(a, b) of its success; a draw g from it explores what is uncertain, and
the smallest (g - .5)^2 are kept. Neighbours: `beta` draws; `plr`, `pcl`, `adarft`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.candidates import SHUFFLE, Candidates
from etude_sampler.curriculum.parts import Context, Pool, PoolConfig
from etude_sampler.statistics import Floats, GroupSummary, Ints, Note, TaskStatistics

from .beta import beta_draws


def belief_note(lam: float) -> Note:
    """The note (a, b): `a = lam a + (1-lam) + m`, `b = lam b + (1-lam) + G-m`, from (1, 1)."""

    def fold(
        x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints
    ) -> Floats:
        won_N = summary.num_success_N
        told_N2 = np.stack([won_N, summary.num_valid_N - won_N], axis=1)
        told_N2 = summary.root_share_N[:, None] * told_N2
        return lam * x_NW + (1.0 - lam) + told_N2

    return Note("mopps", (1.0, 1.0), fold)


@dataclass(frozen=True, slots=True)
class MoppsPool:
    """Thompson sampling of the success rate."""

    factor: float
    target: float
    belief: slice
    """Columns (a, b) among the run's notes."""
    reads: frozenset[str] = frozenset()

    def values(self, candidates: Candidates) -> Floats:
        """[N] squared distances of the drawn success rates to the target."""
        a_N, b_N = candidates.stats.x_NE[:, self.belief].T
        drawn_N = beta_draws(a_N, b_N, candidates.chance, first=SHUFFLE + 1)
        distance_N: Floats = (drawn_N - self.target) ** 2
        return distance_N

    def explain(self, candidates: Candidates) -> str:
        """For example `belief Beta(7, 3), mean 0.7000`."""
        a, b = candidates.stats.x_NE[0, self.belief].tolist()
        return f"belief Beta({a:g}, {b:g}), mean {a / (a + b):.4f}"


class MoppsConfig(PoolConfig):
    """Keep candidates whose success rate, drawn from a belief, is nearest to one half."""

    name: ClassVar[str] = "mopps"
    paper: ClassVar[str] = "MoPPS 2507.04632"
    state: ClassVar[str] = "its own belief (a, b)"

    factor: float = Field(default=16.0, ge=1.0, le=64.0)
    """Candidates leased per task asked for (the paper's 16, or 8)."""
    lam: float = Field(default=1.0, gt=0.0, le=1.0)
    """What a group leaves of the belief before it; .5 for tasks seen seldom."""
    target: float = Field(default=0.5, ge=0.0, le=1.0)
    """Success rate that is wanted."""

    def remembers(self, context: Context) -> tuple[Note, ...]:
        """The belief, forgetting as `lam` says."""
        return (belief_note(self.lam),)

    def build(self, context: Context) -> Pool:
        """The pool."""
        return MoppsPool(self.factor, self.target, context.notes["mopps"])
