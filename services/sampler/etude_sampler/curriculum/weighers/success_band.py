"""Weigher `success_band`: full speed inside a band of success, almost none outside (section 5).

The band .2 to .8 is attributed to online difficulty filtering (2504.03380) by others and was not
checked in the paper; as a weight it is our choice. Neighbour: `gates.success_band`.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from etude_sampler.statistics import Floats, TaskStatistics

from .per_task import TaskWeigherConfig, beta_mean


class SuccessBandConfig(TaskWeigherConfig):
    """Weight 1 while the posterior mean of success lies in [low, high], else `outside`."""

    name: ClassVar[str] = "success_band"
    paper: ClassVar[str] = "design input: 2504.03380; as a weight ours"
    state: ClassVar[str] = "s, f"

    low: float = Field(default=0.2, ge=0.0, le=1.0)
    """Smallest success that counts as inside."""
    high: float = Field(default=0.8, ge=0.0, le=1.0)
    """Largest success that counts as inside."""
    outside: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Weight outside the band: nothing is ever dropped."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError("low must not be above high")
        return self

    def task_weights(self, stats: TaskStatistics) -> Floats:
        """1 inside, `outside` elsewhere; the mean is that of Beta(s + 1, f + 1)."""
        mean_N = beta_mean(stats)
        return np.where((mean_N >= self.low) & (mean_N <= self.high), 1.0, self.outside)

    def reason(self, stats_row: TaskStatistics) -> str:
        """The mean and the band."""
        mean = float(beta_mean(stats_row)[0])
        where = "inside" if self.low <= mean <= self.high else "outside"
        return f"success {mean:.4f} {where} [{self.low:g}, {self.high:g}]"
