"""Oracles on a real learner: what every training task would show now, by rollouts nobody counts.

They bound what knowing difficulty can buy, as those of the simulator do. Used by `real_cell.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from real_policies import Policies, answers

from etude_proto.v1 import PromptItem, TaskCreate
from etude_sampler.statistics import Floats

NUM_ROLLOUTS = 8
"""Uncounted rollouts of each task and reading."""
Wanted = Literal["success", "signal"]
"""What an oracle values a task by: p (1 - p) of success, or the deviation of the rule reward."""


class Gauge:
    """Measures the training tasks of a cell."""

    def __init__(self, policies: Policies, tasks: Sequence[TaskCreate], wanted: Wanted) -> None:
        self._policies, self._tasks, self._wanted = policies, tasks, wanted
        self.value_N: Floats = np.zeros(len(tasks))

    async def read(self) -> None:
        """Measure again, with the weights that the engine holds now."""
        found = await answers(self._policies, self._tasks, num=NUM_ROLLOUTS)
        if self._wanted == "signal":
            self.value_N = np.array([np.std([one.total for one in row]) for row in found])
        else:
            chance_N = np.array([np.mean([one.success for one in row]) for row in found])
            self.value_N = chance_N * (1.0 - chance_N)


def prefer(items: Sequence[PromptItem], value_N: Floats, num: int) -> list[PromptItem]:
    """The `num` items of the highest value; ties as they were drawn."""
    return sorted(items, key=lambda item: -value_N[int(str(item.task.metadata["number"]))])[:num]
