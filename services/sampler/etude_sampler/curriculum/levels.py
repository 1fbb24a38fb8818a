"""Levels of difficulty by an offline pass rate: the lanes of the static ladder (section 5).

Attributed to Observe-R1 (2505.12432) by others: level `1 - m/8` from 8 rollouts. Rates that are no
eighths go to the nearest. Neighbours: `allocators.ladder` climbs them, the service reads
`metadata.pass_rate`.
"""

from __future__ import annotations

from collections.abc import Sequence

from etude_proto.v1.curriculum import LanesBy

STEPS = 8
"""Levels are eighths, so there are nine."""
UNKNOWN = "level_unknown"
"""Instead of a lane, for a task without a usable pass rate."""


def level(pass_rate: float) -> float:
    """`1 - pass rate`, to the nearest eighth: 0 is easy, 1 was never solved."""
    return round(STEPS * (1.0 - pass_rate)) / STEPS


def pass_rate_of(value: object) -> float | None:
    """What a task's metadata says as a rate; None if it is no number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0.0 <= number <= 1.0 else None


def level_name(pass_rate: object) -> str | None:
    """The lane of a pass rate, `level_0` to `level_8`; None if it is no number in [0, 1]."""
    number = pass_rate_of(pass_rate)
    return None if number is None else f"level_{round(STEPS * level(number))}"


def lane_members(lanes_by: LanesBy, stored: Sequence[str]) -> tuple[str, ...]:
    """Component lanes that a task stands in, from what is stored of it.

    Args:
        lanes_by: what the lanes are.
        stored: its sub-tasks, its source, or its pass rate as text.
    """
    if lanes_by == "level":
        return tuple(level_name(one) or UNKNOWN for one in stored)
    return tuple(stored)
