"""Weigher `kimi`: the more often a task fails, the faster it runs (section 5).

Kimi k1.5 (2501.12599) samples in proportion to 1 - success rate; the EMA and the floor are ours.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from etude_sampler.statistics import Floats, TaskStatistics

from .per_task import TaskWeigherConfig


class KimiConfig(TaskWeigherConfig):
    """Weight by failure, 1 - ema of success + floor; unsolvable tasks run fastest."""

    name: ClassVar[str] = "kimi"
    paper: ClassVar[str] = "1 - success of Kimi k1.5 2501.12599; EMA and floor ours"
    state: ClassVar[str] = "ema"

    floor: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Added to every weight: nothing is ever dropped."""

    def task_weights(self, stats: TaskStatistics) -> Floats:
        """`1 - ema + floor`; unseen: 1 + floor."""
        weights_N: Floats = 1.0 - stats.ema_N + self.floor
        return weights_N

    def reason(self, stats_row: TaskStatistics) -> str:
        """The terms."""
        return f"1 - success {float(stats_row.ema_N[0]):.4f} + {self.floor:g}"
