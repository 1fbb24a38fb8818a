"""Budget `knapsack`: rollouts where they are worth most (Knapsack RL, 2509.25849).

Maximises `sum V(n_i, p_i)`, `V = (1 - p^n - (1-p)^n) p (1-p)^2`, over rollouts that sum to tasks
times group size. The value is the paper's. V is concave in n, so taking the best single rollout
again and again is exact; this, the classes below and what is done with the rest are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.allotment import Allotment, Budget, BudgetInput
from etude_sampler.curriculum.parts import Context
from etude_sampler.statistics import Floats, Ints, Note, TaskStatistics

from .bounds import BoundedConfig
from .recent import LAST_REWARDS, WINDOW, last_rewards
from .shares import apportion


def value(p_N: Floats, n_N: Floats | Ints) -> Floats:
    """`V(n, p)`: chance that the group is not all alike, times what it is then worth."""
    mixed_N = 1.0 - p_N**n_N - (1.0 - p_N) ** n_N
    value_N: Floats = mixed_N * p_N * (1.0 - p_N) ** 2
    return value_N


def best_rollouts(p_N: Floats, total: int, *, low: int, high: int) -> Ints:
    """Whole numbers [N] in [low, high] that sum to `total` and maximise `sum V(n_i, p_i)`.

    A task's own gains fall, so the best gains of all tasks together are the first ones of each.
    Ties: fewer rollouts first, then order.

    Args:
        p_N: success probabilities.
        total: at least `N * low`; beyond `N * high` everyone gets `high`.
        low: fewest rollouts.
        high: most rollouts.
    """
    spare = min(total - low * len(p_N), (high - low) * len(p_N))
    if spare <= 0:
        return np.full(len(p_N), low, dtype=np.int64)
    q_N = 1.0 - p_N
    shape = (high - low, len(p_N))
    # V(n+1, p) - V(n, p), n from `low`; products, so that no rounding lifts a later gain
    right_HN = np.cumprod(np.broadcast_to(p_N, shape), axis=0) * p_N ** (low - 1)
    wrong_HN = np.cumprod(np.broadcast_to(q_N, shape), axis=0) * q_N ** (low - 1)
    gain_HN = (right_HN * q_N + wrong_HN * p_N) * (p_N * q_N**2)
    last = np.partition(gain_HN, -spare, axis=None)[-spare]
    taken_HN = gain_HN > last
    ties = np.flatnonzero(gain_HN == last)[: spare - np.count_nonzero(taken_HN)]
    taken_HN.flat[ties] = True
    best_N: Ints = low + np.count_nonzero(taken_HN, axis=0)
    return best_N


@dataclass(frozen=True, slots=True)
class KnapsackBudget:
    """Rollouts by their marginal value."""

    low: int
    high: int
    needed: int
    columns: slice
    """Where the note lies."""

    def allot(self, batch: BudgetInput) -> Allotment:
        """Rollouts of the batch's tasks; they sum to tasks times group size."""
        won_B, known_B = last_rewards(batch.stats.x_NE[:, self.columns])
        is_new_B = known_B < self.needed
        none_B, all_B = ~is_new_B & (won_B == 0), ~is_new_B & (won_B == known_B)
        mixed_B = ~(is_new_B | none_B | all_B)
        num_B: Ints = np.where(is_new_B, batch.group_size, self.low).astype(np.int64)
        left = len(num_B) * batch.group_size - int(num_B[~mixed_B].sum())
        p_M = won_B[mixed_B] / known_B[mixed_B]
        num_B[mixed_B] = best_rollouts(p_M, left, low=self.low, high=self.high)
        for class_B in (none_B, all_B, is_new_B):
            spare = len(num_B) * batch.group_size - int(num_B.sum())
            self._spend(num_B, np.flatnonzero(class_B), spare)
        return Allotment.plain(num_B)

    def _spend(self, num_B: Ints, rows: Ints, spare: int) -> None:
        """Give what is left over to some of the tasks, as evenly as the bound allows."""
        if spare > 0 and len(rows):
            before = int(num_B[rows].sum())
            total = min(before + spare, len(rows) * self.high)
            num_B[rows] = apportion(np.ones(len(rows)), total, low=self.low, high=self.high)

    def largest(self, group_size: int) -> int:
        """The upper bound."""
        return self.high

    def price(self, group_size: int) -> int:
        """G, in the mean of the batch."""
        return group_size

    def explain(self, stats_row: TaskStatistics) -> str:
        """The task's class, and its p."""
        won_N, known_N = last_rewards(stats_row.x_NE[:, self.columns])
        won, known = float(won_N[0]), float(known_N[0])
        if known < self.needed:
            return f"{known:g} of the {self.needed} rewards known that it needs: the group size"
        if won in (0.0, known):
            return f"all of the last {known:g} rewards alike: {self.low}, or what is left over"
        worth = float(value(np.array([won / known]), np.array([self.low]))[0])
        return f"p {won / known:.4f} of the last {known:g} rewards: V({self.low}) = {worth:.4f}"


class KnapsackConfig(BoundedConfig):
    """Rollouts where they are worth most: a knapsack over p of the last 16 rewards."""

    name: ClassVar[str] = "knapsack"
    paper: ClassVar[str] = "value Knapsack RL 2509.25849; greedy and classes ours"
    state: ClassVar[str] = "last rewards (note)"
    notes: ClassVar[tuple[Note, ...]] = (LAST_REWARDS,)

    needed: int = Field(default=8, ge=2, le=WINDOW)
    """Rewards that must be known of a task; with fewer it gets the group size."""

    def build(self, context: Context) -> Budget:
        """The budget."""
        self.check()
        return KnapsackBudget(self.low, self.high, self.needed, context.notes[LAST_REWARDS.name])
