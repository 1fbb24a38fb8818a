"""Weigher `mixed_group`: the probability that a group has a gradient (section 5, our choice).

With a binary reward a group teaches only if some rollouts are right and some wrong.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.statistics import Floats, TaskStatistics

from .group_sized import GroupSizedConfig
from .per_task import FlooredConfig, counts, mixed_probability


class MixedGroupConfig(GroupSizedConfig, FlooredConfig):
    """Weight by the probability of a mixed group: mixed(s + prior, f + prior, G)."""

    name: ClassVar[str] = "mixed_group"
    paper: ClassVar[str] = "ours"
    state: ClassVar[str] = "s, f"

    prior: float = Field(default=0.5, gt=0.0, le=100.0)
    """Successes and failures that every task starts with (0.5: Jeffreys' prior)."""

    def task_weights(self, stats: TaskStatistics) -> Floats:
        """`max(floor, mixed(s + prior, f + prior, G))`."""
        mixed_N = mixed_probability(stats.s_N + self.prior, stats.f_N + self.prior, self.size)
        return np.maximum(self.floor, mixed_N)

    def reason(self, stats_row: TaskStatistics) -> str:
        """The counts and the group size."""
        s, f = counts(stats_row)
        return f"mixed(s {s:g} + {self.prior:g}, f {f:g} + {self.prior:g}, G {self.size})"
