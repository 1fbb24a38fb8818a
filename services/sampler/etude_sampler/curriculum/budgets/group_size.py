"""Budget `group_size`: the default, as many rollouts for every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etude_sampler.curriculum.allotment import Allotment, Budget, BudgetInput
from etude_sampler.curriculum.parts import BudgetConfig, Context
from etude_sampler.statistics import TaskStatistics


@dataclass(frozen=True, slots=True)
class GroupSizeBudget:
    """The run's group size."""

    def allot(self, batch: BudgetInput) -> Allotment:
        """G for every task."""
        return Allotment.plain(np.full(len(batch.stats.n_N), batch.group_size, dtype=np.int64))

    def largest(self, group_size: int) -> int:
        """G."""
        return group_size

    def price(self, group_size: int) -> int:
        """G."""
        return group_size

    def explain(self, stats_row: TaskStatistics) -> str:
        """The same for all."""
        return "the run's group size"


class GroupSizeConfig(BudgetConfig):
    """The run's group size for every task."""

    name: ClassVar[str] = "group_size"
    paper: ClassVar[str] = "-"
    is_group_size: ClassVar[bool] = True

    def build(self, context: Context) -> Budget:
        """The budget."""
        return GroupSizeBudget()
