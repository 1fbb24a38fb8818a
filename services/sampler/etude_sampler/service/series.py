"""A run's history as arrays, kept by each process, and its lines for charts: pure.

Versions are immutable, so what was read of them is kept; a restore takes some out of the history
and raises the epoch, under which they are kept. `series_views` reads and shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from etude_proto.v1 import Arm, Line
from etude_sampler.statistics import Floats, Ints
from etude_sampler.statistics.arms import ArmSums, Interval, Z

ARM_VERSIONS = 20
"""Versions that an arm's figure covers at least: a few groups a version say little (our choice)."""
STEPS = (1, 2, 5)
"""Versions of a point are one of these times a power of ten (our choice): labels stay round."""
_SCALARS = ("num_groups", "num_informative", "mean_reward", "success_rate", "num_tokens")
_NAMED = ("mean_components", "mastery", "mastery_error", "lane_shares", "lane_groups", "metrics")
_DIGITS = 6
"""Significant digits of what is shown."""


@dataclass(slots=True)
class Columns:
    """Versions as columns, ascending; a column is by `field` or `field/name`."""

    versions: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, rows: Iterable[tuple[int, str]]) -> None:
        """Append versions with their summaries as JSON."""
        for version, text in rows:
            summary = json.loads(text)
            at = len(self.versions)
            self.versions.append(version)
            for name in _SCALARS:
                self._put(name, at, summary.get(name))
            for name in _NAMED:
                self._put_all(name, at, summary.get(name) or {})
            for arm, sums in (summary.get("arms") or {}).items():
                self._put_all(f"arms/{arm}", at, sums)

    def _put_all(self, prefix: str, at: int, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            self._put(f"{prefix}/{name}", at, value)

    def _put(self, name: str, at: int, value: float | None) -> None:
        column = self.values.setdefault(name, [])
        column.extend([np.nan] * (at - len(column)))
        column.append(np.nan if value is None else float(value))

    def column(self, name: str) -> Floats:
        """[V] values, NaN where there is none."""
        found = self.values.get(name, [])
        padded = [*found, *[np.nan] * (len(self.versions) - len(found))]
        return np.array(padded, dtype=np.float64)

    def names(self, prefix: str) -> list[str]:
        """Names of the columns under `prefix/`."""
        start = f"{prefix}/"
        return [name.removeprefix(start) for name in self.values if name.startswith(start)]


def versions_a_point(first: int, last: int, most: int) -> int:
    """The smallest round number of versions that makes at most `most` points of first to last."""
    power = 1
    while True:
        for step in STEPS:
            if last // (step * power) - first // (step * power) < most:
                return step * power
        power *= 10


class Points:
    """Columns cut into points."""

    def __init__(self, columns: Columns, *, most: int) -> None:
        self._columns = columns
        versions_V = np.array(columns.versions, dtype=np.int64)
        self.every = 1
        if len(versions_V):
            self.every = versions_a_point(int(versions_V[0]), int(versions_V[-1]), most)
        _, starts_P = np.unique(versions_V // self.every, return_index=True)
        self._starts_P: Ints = starts_P.astype(np.int64)
        ends_P = np.append(starts_P[1:], len(versions_V))[: len(starts_P)]
        self._ends_P: Ints = ends_P.astype(np.int64)
        self.versions = versions_V[self._ends_P - 1].tolist() if len(versions_V) else []

    def sums(self, name: str) -> Floats:
        """[P] sum of each point's values; 0 for a point without any."""
        return self._reduce(np.add, np.nan_to_num(self._columns.column(name)))

    def _running(self, name: str) -> Floats:
        """[P] sum of the versions up to the end of each point, no more than a window of them."""
        total_V = np.concatenate([[0.0], np.cumsum(np.nan_to_num(self._columns.column(name)))])
        begins_P = np.maximum(0, self._ends_P - max(self.every, ARM_VERSIONS))
        window_P: Floats = total_V[self._ends_P] - total_V[begins_P]
        return window_P

    def _reduce(self, how: np.ufunc, values_V: Floats) -> Floats:
        if not len(self._starts_P):
            return np.zeros(0)
        reduced: Floats = how.reduceat(values_V, self._starts_P)
        return reduced

    def last(self, name: str) -> Floats:
        """[P] the last value that each point has, NaN without any."""
        values_V = self._columns.column(name)
        at_V = np.where(np.isnan(values_V), -1, np.arange(len(values_V)))
        at_P = self._reduce(np.maximum, at_V.astype(np.float64)).astype(np.int64)
        return np.where(at_P < 0, np.nan, values_V[np.maximum(at_P, 0)])

    def mean(self, name: str, *, by: str | None = None) -> Floats:
        """[P] mean of each point's values, weighed by another column."""
        values_V = self._columns.column(name)
        weight_V = np.ones(len(values_V)) if by is None else self._columns.column(by)
        weight_V = np.where(np.isnan(values_V), 0.0, np.nan_to_num(weight_V))
        total_P = self._reduce(np.add, np.nan_to_num(values_V) * weight_V)
        return ratio(total_P, self._reduce(np.add, weight_V))

    def spread(self, name: str) -> tuple[Floats, Floats]:
        """[P] least and greatest of each point's values."""
        values_V = self._columns.column(name)
        low_P = self._reduce(np.fmin, values_V)
        return low_P, self._reduce(np.fmax, values_V)

    def line(self, name: str, *, label: str | None = None, by: str | None = None) -> Line:
        """Means, with the least and the greatest value as a band."""
        return line(label or name, self.mean(name, by=by), self.spread(name))

    def mastery(self, name: str) -> Line:
        """Mastery of a sub-task at the end of each point, with its 95 % interval."""
        value_P, error_P = self.last(f"mastery/{name}"), self.last(f"mastery_error/{name}")
        return line(name, value_P, (value_P - Z * error_P, value_P + Z * error_P))

    def share(self, part: str, whole: str, *, label: str) -> Line:
        """A ratio of sums, with the least and greatest ratio of a version as a band."""
        part_V, whole_V = self._columns.column(part), self._columns.column(whole)
        each_V = ratio(np.nan_to_num(part_V), whole_V)
        band = (self._reduce(np.fmin, each_V), self._reduce(np.fmax, each_V))
        return line(label, ratio(self.sums(part), self.sums(whole)), band)

    def arm(self, arm: Arm, figure: str) -> Line:
        """A figure of an arm up to each point, over its versions, `ARM_VERSIONS` at least."""
        names = list(ArmSums().to_json())
        table = [self._running(f"arms/{arm.value}/{name}").tolist() for name in names]
        found: list[Interval] = [getattr(ArmSums(*row), figure) for row in zip(*table, strict=True)]
        value, low, high = (
            np.array([getattr(one, part) for one in found], dtype=np.float64)
            for part in ("mean", "low", "high")
        )
        return line(f"{arm.value}.{figure}", value, (low, high))


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`; NaN where there is no whole."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def line(name: str, values_P: Floats, band: tuple[Floats, Floats] | None = None) -> Line:
    """A line as the wire shows it."""
    if band is None:
        return Line(name=name, values=rounded(values_P))
    return Line(name=name, values=rounded(values_P), low=rounded(band[0]), high=rounded(band[1]))


def rounded(values_P: Floats) -> list[float | None]:
    """Few digits; None for what is no number."""
    return [
        float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values_P.tolist()
    ]


def shown_names(columns: Columns, prefix: str, known: Sequence[str]) -> list[str]:
    """Those known, in their order, then others that the history has."""
    found = columns.names(prefix)
    return [*[n for n in known if n in found], *sorted(n for n in found if n not in known)]
