"""Weigher `rds_scalar`: the ablation of `rds` that sees the scalar reward only (our choice).

One learning value per task, from the reward's mean and variance mapped to [0, 1], the same in all
its lanes. Neighbour: `terms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from etude_sampler.curriculum.parts import Context, Weigher
from etude_sampler.statistics import Bools, Floats, TaskStatistics

from .terms import RdsKnobs, explain, learning_value, refresh_ages, seen_weights


class RdsScalarConfig(RdsKnobs):
    """Weight by the learning value of the scalar reward, mapped to [0, 1]."""

    name: ClassVar[str] = "rds_scalar"
    paper: ClassVar[str] = "ours (ablation of rds)"
    state: ClassVar[str] = "reward moments, full, last"

    low: float = -3.0
    """Smallest reward of a task with several components (ToolRL: -3)."""
    high: float = 4.0
    """Largest reward of a task with several components (ToolRL: 4)."""
    low_single: float = 0.0
    """Smallest reward of a task with one component (ToolRL: gold without calls)."""
    high_single: float = Field(default=1.0)
    """Largest reward of a task with one component."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (self.low < self.high and self.low_single < self.high_single):
            raise ValueError("low must be below high, low_single below high_single")
        return self

    def build(self, context: Context) -> Weigher:
        """The weigher."""
        return RdsScalarWeigher(self)


@dataclass(frozen=True, slots=True)
class RdsScalarWeigher:
    """Weights of `rds_scalar`."""

    knobs: RdsScalarConfig

    @property
    def refresh_ages(self) -> tuple[int, ...]:
        """Ages at which the staleness bonus rises."""
        return refresh_ages(self.knobs)

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]: 1 unseen, else the learning value's; 0 where inactive."""
        mean_N, variance_N = self._normalised(stats, np.count_nonzero(active_NK, axis=1) == 1)
        value_NK = learning_value(mean_N, variance_N)[:, None]
        seen_NK = seen_weights(value_NK, stats, version=version, knobs=self.knobs)
        return np.where(active_NK, np.where(stats.n_N[:, None] == 0, 1.0, seen_NK), 0.0)

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """As `rds`, on the reward; a seen component counts as an active one."""
        single_N = np.count_nonzero(~np.isnan(stats_row.m_NK), axis=1) == 1
        mean_N, variance_N = self._normalised(stats_row, single_N)
        mean = float(mean_N[0]) if int(stats_row.n_N[0]) else float("nan")
        return explain(
            mean, float(variance_N[0]), stats_row=stats_row, version=version, knobs=self.knobs
        )

    def _normalised(self, stats: TaskStatistics, single_N: Bools) -> tuple[Floats, Floats]:
        """Reward mean and variance mapped to the unit interval."""
        low_N = np.where(single_N, self.knobs.low_single, self.knobs.low)
        width_N = np.where(single_N, self.knobs.high_single, self.knobs.high) - low_N
        return (stats.reward_mean_N - low_N) / width_N, stats.reward_var_N / (width_N * width_N)
