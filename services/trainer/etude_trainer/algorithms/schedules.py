"""Learning-rate schedules: a number for each training step.

t counts training batches from 0: step t trains on a batch leased at policy version t, so a resumed
trainer needs no scheduler state. Used by `stages/learn.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

ScheduleKind = Literal["constant", "exponential"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Shape of the learning rate over steps."""

    kind: ScheduleKind = "constant"
    warmup_steps: int = 0
    """Steps over which the rate rises linearly to its full value; 0 is none."""
    factor: float = 0.85
    """Exponential: multiplied once a period."""
    period_steps: int = 7
    """Exponential: steps of a period."""
    floor: float = 0.1
    """Exponential: never below this share of the base rate."""


def _constant(_t: int, _schedule: Schedule) -> float:
    return 1.0


def _exponential(t: int, schedule: Schedule) -> float:
    """`max(floor, factor^floor(t / period))`: ToolExpander's shape, our constants (4.3)."""
    share: float = schedule.factor ** (t // schedule.period_steps)
    return max(schedule.floor, share)


SCHEDULES: Final[dict[ScheduleKind, Callable[[int, Schedule], float]]] = {
    "constant": _constant,
    "exponential": _exponential,
}


def learning_rate(t: int, *, base: float, schedule: Schedule) -> float:
    """The learning rate of step t = 0, 1, ...: warm-up times shape times base."""
    if t < 0:
        raise ValueError("steps count from 0")
    warmup = min(1.0, (t + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return base * warmup * SCHEDULES[schedule.kind](t, schedule)
