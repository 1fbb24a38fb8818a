"""Weigher `rds`: reward-based dynamic sampling per component (algorithms.md 3.2).

Neighbours: `terms` holds the formulas and their origin; `rds_scalar` is the ablation that sees the
scalar reward only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etude_sampler.curriculum.parts import Context, Weigher
from etude_sampler.statistics import Bools, Floats, TaskStatistics

from .terms import RdsKnobs, explain, learning_value, refresh_ages, seen_weights


@dataclass(frozen=True, slots=True)
class RdsWeigher:
    """Weights of `rds`: 1 for an unseen task, which outranks every seen one."""

    knobs: RdsKnobs

    @property
    def refresh_ages(self) -> tuple[int, ...]:
        """Ages at which the staleness bonus rises."""
        return refresh_ages(self.knobs)

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]: 1 unseen, else the learning value's; 0 where inactive."""
        value_NK = learning_value(stats.m_NK, stats.v_NK)
        seen_NK = seen_weights(value_NK, stats, version=version, knobs=self.knobs)
        return np.where(active_NK, np.where(np.isnan(seen_NK), 1.0, seen_NK), 0.0)

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """For example `eps 0.02 + u 0.7071 (4v 1.000 x headroom 0.5000) + staleness 0.025`."""
        return explain(
            float(stats_row.m_NK[0, k]),
            float(stats_row.v_NK[0, k]),
            stats_row=stats_row,
            version=version,
            knobs=self.knobs,
        )


class RdsConfig(RdsKnobs):
    """Weight by learning value per component: signal (variance) times headroom (1 - mean)."""

    name: ClassVar[str] = "rds"
    paper: ClassVar[str] = "idea of DSCL 2509.14718, formulas ours"
    state: ClassVar[str] = "m_k, v_k, full, last"

    def build(self, context: Context) -> Weigher:
        """The weigher."""
        return RdsWeigher(self)
