"""Weigher `learnability`: expected p (1 - p) of a task (section 5).

The score p (1 - p) is that of SFL (2408.15099) and LILO (2502.12272); its expectation under the
posterior, instead of screening rollouts, is our choice. With a uniform prior it is a product.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.statistics import Floats, TaskStatistics

from .per_task import FlooredConfig, counts


class LearnabilityConfig(FlooredConfig):
    """Weight by learnability, E[p (1 - p)] = ab / ((a + b)(a + b + 1)) with a = s + prior."""

    name: ClassVar[str] = "learnability"
    paper: ClassVar[str] = "score of SFL 2408.15099, LILO 2502.12272; posterior form ours"
    state: ClassVar[str] = "s, f"

    prior: float = Field(default=1.0, gt=0.0, le=100.0)
    """Successes and failures that every task starts with."""

    def task_weights(self, stats: TaskStatistics) -> Floats:
        """`max(floor, ab / ((a + b)(a + b + 1)))`."""
        a_N, b_N = stats.s_N + self.prior, stats.f_N + self.prior
        total_N = a_N + b_N
        return np.maximum(self.floor, a_N * b_N / (total_N * (total_N + 1.0)))

    def reason(self, stats_row: TaskStatistics) -> str:
        """The counts."""
        s, f = counts(stats_row)
        return f"E[p(1-p)] under Beta(s {s:g} + {self.prior:g}, f {f:g} + {self.prior:g})"
