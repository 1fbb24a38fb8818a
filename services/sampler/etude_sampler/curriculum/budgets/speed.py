"""Budget `speed`: a few rollouts first, many more where they disagree (SPEED, 2506.09016).

The rollout worker runs both phases inside one lease (`PromptItem.screen`): it stops where all or
none of the first rollouts are right, else it makes the others, and all of them are trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.allotment import Allotment, Budget, BudgetInput
from etude_sampler.curriculum.parts import BudgetConfig, Context
from etude_sampler.statistics import Floats, TaskStatistics


@dataclass(frozen=True, slots=True)
class SpeedBudget:
    """`first` rollouts, then `more` where some are right and some wrong."""

    first: int
    more: int

    def allot(self, batch: BudgetInput) -> Allotment:
        """The same for every task, whatever the group size."""
        num = len(batch.stats.n_N)
        return Allotment(
            num_rollouts_B=np.full(num, self.first + self.more, dtype=np.int64),
            screen_B=np.full(num, self.first, dtype=np.int64),
            train_B=np.ones(num, dtype=np.bool_),
        )

    def largest(self, group_size: int) -> int:
        """Both phases."""
        return self.first + self.more

    def price(self, group_size: int) -> int:
        """Both phases: how many tasks get the second one is not known before."""
        return self.first + self.more

    def explain(self, stats_row: TaskStatistics) -> str:
        """What the task's running success share makes of it."""
        p_N = stats_row.ema_N
        going = float(continues(p_N, self.first)[0])
        spent = float(expected_rollouts(p_N, self.first, self.more)[0])
        return f"{self.first}, then {self.more} with chance {going:.4f}: {spent:.2f} expected"


def continues(p_N: Floats, first: int) -> Floats:
    """Chance that `first` rollouts of success probability p are not all alike."""
    going_N: Floats = 1.0 - p_N**first - (1.0 - p_N) ** first
    return going_N


def expected_rollouts(p_N: Floats, first: int, more: int) -> Floats:
    """Rollouts of both phases, in the mean."""
    spent_N: Floats = first + more * continues(p_N, first)
    return spent_N


class SpeedConfig(BudgetConfig):
    """4 rollouts, and 20 more where some of them are right and some wrong."""

    name: ClassVar[str] = "speed"
    paper: ClassVar[str] = "SPEED 2506.09016"

    first: int = Field(default=4, ge=2, le=512)
    """Rollouts of the first phase."""
    more: int = Field(default=20, ge=1, le=512)
    """Rollouts of the second phase."""

    def build(self, context: Context) -> Budget:
        """The budget."""
        return SpeedBudget(self.first, self.more)

    def mean(self, group_size: int) -> int:
        """`first + more (first - 1) / (first + 1)`, if every chance of success is alike (ours)."""
        return round(self.first + self.more * (self.first - 1) / (self.first + 1))
