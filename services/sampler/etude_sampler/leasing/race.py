"""Reference model of one lane: an exponential race on a virtual clock (algorithms.md 1.2).

The law is Efraimidis-Spirakis weighted sampling without replacement; clock, re-weighing and
rebasing are ours. `store/redis/lua` does the same on a sorted set; `lanes` joins several.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.statistics.arrays import Floats, Ints

MICRO = 1_000_000
"""Weights are integers in this fraction of 1."""
REBASE_ABOVE = 1e6
"""A lane's scores are rebased when its clock exceeds this (rule L6)."""


def arrival(clock: float, exponential: Floats, weight: Ints) -> Floats:
    """Arrival time of an entry: `clock + e 1e6 / weight`, in this order of operations (L1)."""
    return clock + exponential * float(MICRO) / weight


class Race:
    """One lane over the tasks 0..N-1: who waits, with which weight and arrival time."""

    def __init__(self, num_tasks: int) -> None:
        """An empty lane that may hold `num_tasks` tasks, at clock 0."""
        self.scores_N: Floats = np.full(num_tasks, np.inf)
        """Arrival times; infinite where a task does not wait."""
        self.weights_N: Ints = np.zeros(num_tasks, np.int64)
        """Weights in units of 1e-6; 0 where a task does not wait."""
        self.clock = 0.0
        """Largest score ever popped: virtual time, never wall time."""

    @property
    def total(self) -> int:
        """Exact sum of the weights of those waiting."""
        return int(self.weights_N.sum())

    @property
    def num_waiting(self) -> int:
        """Number of tasks in the lane."""
        return int(np.count_nonzero(self.weights_N))

    def enter(self, tasks: Ints, weights: Ints, exponentials: Floats) -> None:
        """Enter tasks with fresh draws; those of weight 0 stay outside (L1, L5)."""
        racing = weights > 0
        inside = tasks[racing]
        self.weights_N[inside] = weights[racing]
        self.scores_N[inside] = arrival(self.clock, exponentials[racing], weights[racing])

    def leave(self, tasks: Ints) -> None:
        """Take tasks out, for example because another lane popped them (L5)."""
        self.scores_N[tasks] = np.inf
        self.weights_N[tasks] = 0

    def pop(self, k: int) -> Ints:
        """Take the `k` earliest tasks (fewer if fewer wait), in order, and move the clock (L2)."""
        waiting = np.flatnonzero(self.weights_N)
        first = waiting[np.argsort(self.scores_N[waiting], kind="stable")[:k]]
        if first.size:
            self.clock = max(self.clock, float(self.scores_N[first[-1]]))
        self.leave(first)
        return first.astype(np.int64)

    def reweigh(self, tasks: Ints, weights: Ints) -> None:
        """Change weights of waiting tasks without a draw (L4); others are ignored.

        A weight of 0 takes the task out; it comes back by `enter`, with a fresh draw.
        """
        old = self.weights_N[tasks]
        self.leave(tasks[(old > 0) & (weights == 0)])
        moved = (old > 0) & (weights > 0) & (weights != old)
        rows, new = tasks[moved], weights[moved]
        self.scores_N[rows] = self.clock + (self.scores_N[rows] - self.clock) * old[moved] / new
        self.weights_N[rows] = new

    def rebase(self) -> None:
        """Subtract the clock from all scores once it exceeds `REBASE_ABOVE` (L6)."""
        if self.clock > REBASE_ABOVE:
            self.scores_N -= self.clock
            self.clock = 0.0
