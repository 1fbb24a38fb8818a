"""Allocator `tscl`: the lane whose success changes fastest, up or down (1707.00183, section 5).

Both forms of the paper: online, and by the slope of a window. r is the lane's success rate in a
policy version; lanes that tie share the larger part (our choices). Neighbour: `over_lanes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from .over_lanes import LaneGroups, LanesConfig, numbers


def slope(values: Sequence[float]) -> float:
    """Least-squares slope of values one step apart; 0 for fewer than two."""
    num = len(values)
    if num < 2:
        return 0.0
    middle, mean = (num - 1) / 2.0, math.fsum(values) / num
    rise = math.fsum((i - middle) * (value - mean) for i, value in enumerate(values))
    return rise / math.fsum((i - middle) ** 2 for i in range(num))


class TsclConfig(LanesConfig):
    """The lane of the largest learning progress |Q|; others by epsilon."""

    name: ClassVar[str] = "tscl"
    paper: ClassVar[str] = "TSCL 1707.00183"
    state: ClassVar[str] = "per lane: Q, last success rates"

    form: Literal["online", "window"] = "online"
    """`online`: Q += alpha ((r - r_prev) - Q); `window`: slope of the last rates."""
    alpha: float = Field(default=0.1, gt=0.0, le=1.0)
    """Step of Q, in the online form."""
    window: int = Field(default=10, ge=2, le=1000)
    """Success rates of a lane that the slope is taken of, in the other form."""
    epsilon: float = Field(default=0.1, ge=0.0, le=1.0)
    """Part that all lanes share alike."""

    def start(self, num_lanes: int) -> JsonValue:
        """Nothing seen. Of a lane: Q, then its last rates."""
        return [[0.0] for _ in range(num_lanes)]

    def moved(self, pace: JsonValue, lanes: Sequence[LaneGroups], *, version: int) -> JsonValue:
        """Q and rates of the lanes that had groups."""
        moved: list[JsonValue] = []
        for (q, *rates), groups in zip(self._read(pace), lanes, strict=True):
            if not len(groups):
                moved.append([q, *rates])
                continue
            rate = groups.mean(groups.success_N)
            kept = [*rates, rate][-self.window :]
            if self.form == "window":
                moved.append([slope(kept), *kept])
            else:
                step = self.alpha * ((rate - rates[-1]) - q) if rates else 0.0
                moved.append([q + step, *kept])
        return moved

    def parts(self, pace: JsonValue) -> list[float]:
        """`1 - epsilon` to the lanes of the largest |Q|, epsilon to all."""
        progress = [abs(lane[0]) for lane in self._read(pace)]
        best = [value == max(progress) for value in progress]
        return [
            (1.0 - self.epsilon) * chosen / sum(best) + self.epsilon / len(best) for chosen in best
        ]

    def _read(self, pace: JsonValue) -> list[list[float]]:
        if not isinstance(pace, list):
            raise ValueError(f"not the pace of tscl: {pace!r}")
        return [numbers(lane) for lane in pace]
