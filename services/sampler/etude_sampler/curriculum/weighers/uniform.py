"""Weigher `uniform`: every task runs at the same speed in all its lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etude_sampler.curriculum.parts import Context, Weigher, WeigherConfig
from etude_sampler.statistics import Bools, Floats, TaskStatistics


@dataclass(frozen=True, slots=True)
class UniformWeigher:
    """Weight 1 wherever a task is active."""

    refresh_ages: tuple[int, ...] = ()
    """No weight ever changes."""

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]: 1 where active, else 0."""
        return active_NK.astype(np.float64)

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """Always the same line."""
        return "uniform: 1 for every task = 1.0000"


class UniformWeigherConfig(WeigherConfig):
    """Every task has weight 1 in each of its lanes."""

    name: ClassVar[str] = "uniform"
    paper: ClassVar[str] = "-"

    def build(self, context: Context) -> Weigher:
        """The weigher."""
        return UniformWeigher()
