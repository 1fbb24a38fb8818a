"""Budget `cures`: rollouts in proportion to the standard deviation of success (CurES, 2510.01037).

The quota and its prior Beta(1, 1) are the paper's; bounds and rounding are ours. Neighbour:
weigher `cures`, which prefers the same tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etude_sampler.curriculum.allotment import Allotment, Budget, BudgetInput
from etude_sampler.curriculum.parts import Context
from etude_sampler.curriculum.weighers.per_task import beta_mean
from etude_sampler.statistics import Floats, TaskStatistics

from .bounds import BoundedConfig
from .shares import apportion


@dataclass(frozen=True, slots=True)
class CuresBudget:
    """`n_i = total sigma_i / sum sigma`."""

    low: int
    high: int

    def allot(self, batch: BudgetInput) -> Allotment:
        """Rollouts of the batch's tasks; they sum to tasks times group size."""
        total = len(batch.stats.n_N) * batch.group_size
        return Allotment.plain(apportion(sigma(batch.stats), total, low=self.low, high=self.high))

    def largest(self, group_size: int) -> int:
        """The upper bound."""
        return self.high

    def price(self, group_size: int) -> int:
        """G, in the mean of the batch."""
        return group_size

    def explain(self, stats_row: TaskStatistics) -> str:
        """For example `in proportion to sigma 0.5000 of success 0.5000`."""
        spread, mean = float(sigma(stats_row)[0]), float(beta_mean(stats_row)[0])
        return f"in proportion to sigma {spread:.4f} of success {mean:.4f}"


def sigma(stats: TaskStatistics) -> Floats:
    """`sqrt(pbar (1 - pbar))`, [N]: equal gradient norms per rollout."""
    mean_N = beta_mean(stats)
    sigma_N: Floats = np.sqrt(mean_N * (1.0 - mean_N))
    return sigma_N


class CuresBudgetConfig(BoundedConfig):
    """Rollouts in proportion to sqrt(p (1 - p)), p the posterior mean of success."""

    name: ClassVar[str] = "cures"
    paper: ClassVar[str] = "quota and prior CurES 2510.01037; bounds ours"
    state: ClassVar[str] = "s, f"

    def build(self, context: Context) -> Budget:
        """The budget."""
        self.check()
        return CuresBudget(self.low, self.high)
