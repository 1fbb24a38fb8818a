"""Rollouts of the tasks of a prompt batch: what a budget is asked, and what it answers.

Neighbours: `budgets` has one file a part, the service asks after every draw and keeps the answer
with the lease, `simulation` spends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from etude_sampler.statistics import Bools, Ints, TaskStatistics


@dataclass(frozen=True, slots=True, eq=False)
class BudgetInput:
    """The B tasks of one prompt batch, in the order drawn."""

    stats: TaskStatistics
    """Un-scaffolded statistics [B] as of the draw: nobody else may report a leased task."""
    group_size: int
    """G: a batch has B G rollouts to divide."""


@dataclass(frozen=True, slots=True, eq=False)
class Allotment:
    """Rollouts of each of B tasks."""

    num_rollouts_B: Ints
    """Most rollouts of the task, at least 2 (1 for a probe)."""
    screen_B: Ints
    """Rollouts of a first phase that decides about the others; 0: one phase."""
    train_B: Bools
    """False for a probe, which is not trained on."""

    @classmethod
    def plain(cls, num_rollouts_B: Ints) -> Allotment:
        """One phase each, all trained on."""
        num = len(num_rollouts_B)
        return cls(num_rollouts_B, np.zeros(num, np.int64), np.ones(num, np.bool_))


class Budget(Protocol):
    """Statistics -> rollouts per task. Pure."""

    def allot(self, batch: BudgetInput) -> Allotment:
        """Rollouts of a batch's tasks."""

    def largest(self, group_size: int) -> int:
        """Most rollouts that any task may get."""

    def price(self, group_size: int) -> int:
        """Most rollouts that a batch may cost, per task in it."""

    def explain(self, stats_row: TaskStatistics) -> str:
        """What the one task's rollouts depend on, in one line."""
