"""Weigher `cures`: weights after CurES (2510.01037), without its budgets (section 5).

Prior Beta(1, 1) from the paper; the exponential form is attributed to it by others; tau .2 is our
choice (the released code's temperature is inverted and gives almost equal weights).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.statistics import Floats, TaskStatistics

from .per_task import TaskWeigherConfig, beta_mean


class CuresConfig(TaskWeigherConfig):
    """Weight by exp(sqrt(p (1 - p)) / tau) with p the posterior mean of success."""

    name: ClassVar[str] = "cures"
    paper: ClassVar[str] = "prior of CurES 2510.01037; form a design input; tau ours"
    state: ClassVar[str] = "s, f"

    tau: float = Field(default=0.2, ge=0.06, le=100.0)
    """Temperature: the smaller, the more tasks of middling success are preferred."""

    def task_weights(self, stats: TaskStatistics) -> Floats:
        """`exp(sigma / tau)`, in [1, exp(.5 / tau)]."""
        weights_N: Floats = np.exp(self._sigma(stats) / self.tau)
        return weights_N

    def reason(self, stats_row: TaskStatistics) -> str:
        """Sigma and tau."""
        return f"exp(sigma {float(self._sigma(stats_row)[0]):.4f} / tau {self.tau:g})"

    def _sigma(self, stats: TaskStatistics) -> Floats:
        """`sqrt(pbar (1 - pbar))`."""
        mean_N = beta_mean(stats)
        sigma_N: Floats = np.sqrt(mean_N * (1.0 - mean_N))
        return sigma_N
