"""Allocator `ladder`: static levels of difficulty, from easy to hard (section 5).

Levels by an offline pass rate are attributed to Observe-R1 (2505.12432) by others; the mix around
the stage and its length are our choice. Neighbours: `curriculum.levels` names the lanes,
`over_lanes` shares slots out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, JsonValue

from etude_sampler.curriculum.faults import ConfigFault
from etude_sampler.curriculum.parts import Allocator, Context

from .over_lanes import LaneGroups, LanesConfig, numbers

MIX = (0.05, 0.15, 0.6, 0.15, 0.05)
"""Shares of the levels -2 to +2 around the stage; what falls off an end goes to the others."""


class LadderConfig(LanesConfig):
    """Climb the levels that the tasks have, a stage every few policy versions."""

    name: ClassVar[str] = "ladder"
    paper: ClassVar[str] = "design input: Observe-R1 2505.12432; mix and stages ours"
    state: ClassVar[str] = "policy version"

    stage_versions: int = Field(default=10, ge=1, le=1_000_000)
    """Policy versions of a stage; the last stage stays."""

    def start(self, num_lanes: int) -> JsonValue:
        """Version 0 of so many levels."""
        return [0, num_lanes]

    def moved(self, pace: JsonValue, lanes: Sequence[LaneGroups], *, version: int) -> JsonValue:
        """The version."""
        return [version, len(lanes)]

    def parts(self, pace: JsonValue) -> list[float]:
        """The mix around the stage of this version."""
        version, num = (int(value) for value in numbers(pace))
        stage = min(version // self.stage_versions, num - 1)
        reach = len(MIX) // 2
        return [
            MIX[lane - stage + reach] if abs(lane - stage) <= reach else 0.0 for lane in range(num)
        ]

    def build(self, context: Context) -> Allocator:
        """The allocator; refuses lanes that are no levels."""
        if context.lanes_by != "level":
            raise ConfigFault(
                "/curriculum/lanes_by",
                f"ladder climbs levels: lanes_by must be 'level', not {context.lanes_by!r}",
            )
        return super().build(context)
