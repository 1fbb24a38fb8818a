"""Weigher `novelty`: the less often a task was practised, the faster it runs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from etude_sampler.curriculum.weighers.per_task import TaskWeigherConfig
from etude_sampler.statistics import Floats, TaskStatistics


class NoveltyConfig(TaskWeigherConfig):
    """Weight by novelty, (1 + groups seen)^-power; nothing is ever dropped."""

    name: ClassVar[str] = "novelty"
    paper: ClassVar[str] = "mine"
    state: ClassVar[str] = "n"

    power: float = Field(default=1.0, gt=0.0, le=4.0)
    """How fast a task slows down."""

    def task_weights(self, stats: TaskStatistics) -> Floats:
        """Weights [N] of N tasks; positive and finite, 1 for a task never seen."""
        weights_N: Floats = (1.0 + stats.n_N) ** -self.power
        return weights_N

    def reason(self, stats_row: TaskStatistics) -> str:
        """Why the one task of `stats_row` has its weight."""
        return f"(1 + {int(stats_row.n_N[0])} groups)^-{self.power:g}"
