"""Allocator `sec`: lanes by a moving average of their advantage (2505.14970, section 5).

The form is attributed to SEC by others; the temperature is our choice. Neighbours: `over_lanes`,
`dump`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, JsonValue

from .over_lanes import LaneGroups, LanesConfig, numbers, softmax


class SecConfig(LanesConfig):
    """Softmax of `Q = (1 - alpha) Q + alpha mean |A|` of each lane."""

    name: ClassVar[str] = "sec"
    paper: ClassVar[str] = "design input: SEC 2505.14970; tau ours"
    state: ClassVar[str] = "per lane: Q"

    alpha: float = Field(default=0.3, gt=0.0, le=1.0)
    """Step of Q in one policy version."""
    temperature: float = Field(default=0.5, gt=0.0, le=100.0)
    """Of the softmax (our choice)."""

    def start(self, num_lanes: int) -> JsonValue:
        """Q is 0 everywhere."""
        return [0.0] * num_lanes

    def moved(self, pace: JsonValue, lanes: Sequence[LaneGroups], *, version: int) -> JsonValue:
        """Q of the lanes that had groups."""
        return [
            (1.0 - self.alpha) * old + self.alpha * groups.mean(groups.abs_a_N)
            if len(groups)
            else old
            for old, groups in zip(numbers(pace), lanes, strict=True)
        ]

    def parts(self, pace: JsonValue) -> list[float]:
        """`softmax(Q / temperature)`."""
        return softmax(numbers(pace), self.temperature)
