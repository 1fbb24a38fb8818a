"""State of an allocator, what it folds, and what it shows.

Neighbours: `mastery` and the allocators compute it, the store keeps it as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import JsonValue

from etude_sampler.statistics.arrays import Bools, Floats, Ints

from .trend import Trend


@dataclass(frozen=True, slots=True)
class AllocatorState:
    """Mastery and component weights of K sub-tasks, in lane order (algorithms.md 3.4)."""

    S_K: tuple[float, ...]
    """Sum of the stored component EMAs over the tasks served with the component."""
    n_K: tuple[int, ...]
    """Number of these tasks."""
    M_K: tuple[float, ...]
    """Mastery; nan before the first fold with the component."""
    w_K: tuple[float, ...]
    """Component weights, summing to K."""
    se_K: tuple[float, ...]
    """Standard error of the last estimate; nan before, or from a single group."""
    trend_K: tuple[Trend | None, ...] = ()
    """Mastery as it is now; None before the first group. Empty in runs of a release without it."""
    pace: Mapping[str, JsonValue] = field(default_factory=dict)
    """Schedules of the run's parts by their kind (`parts.Paced`); empty without any."""

    def to_json(self) -> dict[str, JsonValue]:
        """As JSON values; nan becomes null, and every other number keeps its bits."""
        return {
            **({"pace": dict(self.pace)} if self.pace else {}),
            **({"trend_K": [_list_of(trend) for trend in self.trend_K]} if self.trend_K else {}),
            "S_K": list(self.S_K),
            "n_K": list(self.n_K),
            "M_K": [_or_null(value) for value in self.M_K],
            "w_K": list(self.w_K),
            "se_K": [_or_null(value) for value in self.se_K],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> AllocatorState:
        """The state that `to_json` wrote.

        Raises:
            ValueError: a field is missing, of the wrong type, or of another length.
        """
        num = len(_list(data, "n_K"))
        columns = {name: _list(data, name) for name in ("S_K", "n_K", "M_K", "w_K", "se_K")}
        if any(len(column) != num for column in columns.values()):
            raise ValueError("the fields of an allocator state differ in length")
        trends = _list(data, "trend_K") if "trend_K" in data else []
        if len(trends) not in (0, num):
            raise ValueError("the fields of an allocator state differ in length")
        pace = data.get("pace", {})
        if not isinstance(pace, dict):
            raise ValueError("pace of an allocator state must be an object")
        return cls(
            S_K=tuple(_number(value) for value in columns["S_K"]),
            n_K=tuple(int(_number(value)) for value in columns["n_K"]),
            M_K=tuple(_number(value) for value in columns["M_K"]),
            w_K=tuple(_number(value) for value in columns["w_K"]),
            se_K=tuple(_number(value) for value in columns["se_K"]),
            trend_K=tuple(_trend(value) for value in trends),
            pace=pace,
        )


@dataclass(frozen=True, slots=True, eq=False)
class FoldInput:
    """Applied un-scaffolded groups of one policy version, N rows in apply order."""

    mean_NK: Floats
    """The group's component means; nan where inactive."""
    prev_NK: Floats
    """Stored EMA before the group (the group's own mean on a first visit); nan where inactive."""
    new_NK: Floats
    """Stored EMA after the group; nan where inactive."""
    first_NK: Bools
    """First visit of the task for the component."""
    iota_N: Floats
    """Importance of the group: `importance(p, num_waiting)`."""
    is_control_N: Bools
    """Drawn by a slot of lane `uniform`."""
    num_acked_batches: int
    """Training batches acked so far, the one that made this version included."""
    probability_N: Floats = field(default_factory=lambda: np.zeros(0))
    """Probability of one slot, from the lease, for mastery as it is now; empty: all alike."""
    ordinal_N: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Which task; a task may come more than once."""
    num_valid_N: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Valid rollouts."""
    num_success_N: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Right ones among them."""
    reward_mean_N: Floats = field(default_factory=lambda: np.zeros(0))
    """Mean rule reward."""
    reward_var_N: Floats = field(default_factory=lambda: np.zeros(0))
    """Its population variance."""
    x_NE: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """Notes of the task as they are at the fold, after all groups of this version."""
    features_NF: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """Features of the task, in the order of `Context.features`, if the weigher reads them."""
    num_groups: int = 0
    """Applied groups of the version at any scaffold."""
    num_tasks: int = 0
    """Tasks of the run."""
    live_ME: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """Notes of every task of the run that hard sampling has something to remember of; else none."""


@dataclass(frozen=True, slots=True)
class SubtaskNumbers:
    """What an allocator knows of one sub-task."""

    name: str
    mastery: float | None
    """What slots follow; None before the first fold."""
    standard_error: float | None
    """Of the last estimate; None before, or from a single group."""
    mastery_now: float | None
    """Without the lag of an average; None before the first fold, or where it is not tracked."""
    now_error: float | None
    """Its standard error."""
    threshold: float
    """Mastery at which the sub-task counts as mastered, tau."""
    prerequisite_factor: float
    """How far its prerequisites are mastered, in [0, 1]."""
    deficit: float
    """z: what is missing to the threshold, times the factor, in [0, 1]."""
    component_weight: float
    num_tasks_seen: int


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _list(data: Mapping[str, JsonValue], name: str) -> list[JsonValue]:
    value = data.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{name} of an allocator state must be a list")
    return value


def _list_of(trend: Trend | None) -> JsonValue:
    return None if trend is None else [*trend.to_list()]


def _trend(value: JsonValue) -> Trend | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"{value!r} in an allocator state is no trend")
    return Trend.of_list([_number(one) for one in value])


def _number(value: JsonValue) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} in an allocator state is not a number")
    return float(value)
