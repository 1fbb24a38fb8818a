"""Allocator `dump`: lanes as arms of a bandit with upper confidence bounds (2504.09710, section 5).

Training groups alone move it, and a lane's count decays (our choices: in the released code,
validation does too and counts only grow). Neighbours: `over_lanes`, `sec`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, JsonValue

from .over_lanes import LaneGroups, LanesConfig, numbers, softmax


def bonus(num_lane: float, num_all: float) -> float:
    """`sqrt(2 ln(n + 1) / (n_l + 1))`: what is not known of a lane with n_l of n rollouts."""
    return math.sqrt(2.0 * math.log(num_all + 1.0) / (num_lane + 1.0))


class DumpConfig(LanesConfig):
    """Softmax of each lane's mean absolute advantage plus a bonus for lanes seldom drawn."""

    name: ClassVar[str] = "dump"
    paper: ClassVar[str] = "DUMP 2504.09710; decay of counts ours"
    state: ClassVar[str] = "per lane: count, |A| of the last rollouts"

    window: int = Field(default=300, ge=1, le=10_000)
    """Rollouts of a lane whose advantage is averaged."""
    temperature: float = Field(default=0.1, gt=0.0, le=100.0)
    """Of the softmax."""
    decay: float = Field(default=0.99, gt=0.0, le=1.0)
    """What is left of a lane's count after a policy version (our choice)."""

    def start(self, num_lanes: int) -> JsonValue:
        """No rollouts. Of a lane: its count, then rollouts and |A| of its groups, oldest first."""
        return {"n": 0, "lanes": [[0.0] for _ in range(num_lanes)]}

    def moved(self, pace: JsonValue, lanes: Sequence[LaneGroups], *, version: int) -> JsonValue:
        """Counts and windows with these groups; n counts a rollout once for every lane it is in."""
        total, held = self._read(pace)
        moved: list[JsonValue] = []
        for (count, *window), groups in zip(held, lanes, strict=True):
            num = int(groups.rollouts_N.sum())
            total += num
            for size, value in zip(
                groups.rollouts_N.tolist(), groups.abs_a_N.tolist(), strict=True
            ):
                window += [float(size), value]
            moved.append([self.decay * count + num, *self._trimmed(window)])
        return {"n": total, "lanes": moved}

    def parts(self, pace: JsonValue) -> list[float]:
        """`softmax((mean + bonus) / temperature)`; a lane without rollouts has mean 0."""
        total, held = self._read(pace)
        bounds = [self._mean(window) + bonus(count, total) for count, *window in held]
        return softmax(bounds, self.temperature)

    def _trimmed(self, window: list[float]) -> list[float]:
        """Without the oldest groups that the window does not reach."""
        sizes = window[::2]
        spare = math.fsum(sizes) - self.window
        first = 0
        while first < len(sizes) and sizes[first] <= spare:
            spare -= sizes[first]
            first += 1
        return window[2 * first :]

    def _mean(self, window: list[float]) -> float:
        """Mean over the last `window` rollouts; the oldest group counts as far as it reaches in."""
        left, total, weight = float(self.window), 0.0, 0.0
        for size, value in zip(window[-2::-2], window[::-2], strict=True):
            used = min(size, left)
            total, weight, left = total + used * value, weight + used, left - used
        return total / weight if weight else 0.0

    def _read(self, pace: JsonValue) -> tuple[int, list[list[float]]]:
        match pace:
            case {"n": int() as total, "lanes": list() as lanes}:
                return total, [numbers(lane) for lane in lanes]
        raise ValueError(f"not the pace of dump: {pace!r}")
