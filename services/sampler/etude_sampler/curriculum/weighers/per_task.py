"""What the weighers of whole tasks share: one weight a task, the same in all its lanes.

A part derives a config from `TaskWeigherConfig` and gives two formulas; the posterior of a task's
success lies here too. Neighbours: every file of this folder but `rds*` and `uniform`; the
allocator `joint` makes of these lanes one race of all tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.parts import Context, Weigher, WeigherConfig
from etude_sampler.statistics import Bools, Floats, TaskStatistics


class TaskWeigherConfig(WeigherConfig):
    """Base: a weight that is a function of a task's statistics, whatever the lane and the age."""

    @abstractmethod
    def task_weights(self, stats: TaskStatistics) -> Floats:
        """Weights [N], positive and finite, of tasks seen or unseen."""

    @abstractmethod
    def reason(self, stats_row: TaskStatistics) -> str:
        """The terms of the one task's weight, in a few words."""

    def build(self, context: Context) -> Weigher:
        """The weigher."""
        return TaskWeigher(self)


class FlooredConfig(TaskWeigherConfig):
    """Base of the weights that could come near 0."""

    floor: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Smallest weight: nothing is ever dropped (our choice)."""


@dataclass(frozen=True, slots=True)
class TaskWeigher:
    """Puts the weight of a task into every lane in which it is active."""

    config: TaskWeigherConfig
    refresh_ages: tuple[int, ...] = ()
    """No weight changes without a report."""

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]: the task's where active, else 0."""
        return np.where(active_NK, self.config.task_weights(stats)[:, None], 0.0)

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """For example `mixed(s 2 + 0.5, f 2 + 0.5, G 8) = 0.9146`."""
        weight = float(self.config.task_weights(stats_row)[0])
        return f"{self.config.reason(stats_row)} = {weight:.4f}"


def beta_mean(stats: TaskStatistics, *, prior: float = 1.0) -> Floats:
    """Mean [N] of the belief Beta(s + prior, f + prior) of a task's success."""
    mean_N: Floats = (stats.s_N + prior) / (stats.s_N + stats.f_N + 2.0 * prior)
    return mean_N


def mixed_probability(a_N: Floats, b_N: Floats, group_size: int) -> Floats:
    """`1 - E[p^G] - E[(1-p)^G]` under Beta(a, b): a group of G is not all alike (section 1).

    `E[p^G] = prod_{j<G} (a+j)/(a+b+j)`; a, b > 0; the result lies in [0, 1].
    """
    all_right_N, all_wrong_N = np.ones_like(a_N), np.ones_like(a_N)
    for j in range(group_size):
        all_right_N = all_right_N * (a_N + j) / (a_N + b_N + j)
        all_wrong_N = all_wrong_N * (b_N + j) / (a_N + b_N + j)
    return np.clip(1.0 - all_right_N - all_wrong_N, 0.0, 1.0)


def counts(stats_row: TaskStatistics) -> tuple[float, float]:
    """Decayed successes and failures of the one task."""
    return float(stats_row.s_N[0]), float(stats_row.f_N[0])
