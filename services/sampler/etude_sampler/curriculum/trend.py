"""Mastery as it is now: level and slope of what the versions' estimates say (our choice).

M of section 3.4 is an average over about 1/b versions: of a skill that rises it is late by
`slope (1 - b) / b`. Here a local linear trend (a Kalman filter of two numbers) is fed the same
groups, each version by how much its groups are worth: no lag while the slope holds, and a standard
error. Neighbours: `mastery` calls it, `state` keeps it. Sums are exactly rounded and nothing but
`+ - * /` and a square root is used, so order and machine change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics.arrays import Floats

SLOPE_VARIANCE = 1e-4
"""Of the slope before anything was seen: .01 a version, squared."""
SLOPE_DRIFT = 1e-7
"""What a version adds to it: a slope moves by about .0003 a version, .003 in a hundred."""
FLOOR = 2.5e-5
"""Least variance of a version's estimate: .005, squared."""
FIRST_VARIANCE, AGAIN_VARIANCE = 0.25, 0.04
"""Of one group's mean at a first visit, and of its difference to what was stored at a later one:
what a version's few groups show is taken together with one group that strays so far."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Normal belief about a component's mastery and its change a version."""

    level: float
    slope: float
    level_variance: float
    covariance: float
    slope_variance: float

    @property
    def now(self) -> float:
        """Mastery, in [0, 1]."""
        return min(1.0, max(0.0, self.level))

    @property
    def standard_error(self) -> float:
        """Of `now`, should the slope hold."""
        return math.sqrt(self.level_variance)

    def to_list(self) -> list[float]:
        """Five numbers, for JSON."""
        return [
            self.level,
            self.slope,
            self.level_variance,
            self.covariance,
            self.slope_variance,
        ]

    @classmethod
    def of_list(cls, numbers: Sequence[float]) -> Trend:
        """What `to_list` gave.

        Raises:
            ValueError: not five numbers.
        """
        if len(numbers) != 5:
            raise ValueError(f"a trend is five numbers, not {len(numbers)}")
        return cls(*numbers)


@dataclass(frozen=True, slots=True)
class Sight:
    """What one version's groups say of a component's mean over the run's tasks."""

    mean: float
    variance: float


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Groups of one version with a component."""

    first_N: Floats
    """Means at first visits."""
    first_iota_N: Floats
    """Their importance."""
    again_N: Floats
    """Means less stored means at later visits."""
    again_iota_N: Floats


def sight(total: float, num: int, visits: Visits) -> Sight | None:
    """The difference estimator of 3.4, with first and later visits kept apart; None without any.

    In 3.4 a first visit says "no drift" of all tasks, which dilutes the drift of those seen before.
    Here the tasks seen before say `S / n` plus the mean drift of revisits, the tasks seen for the
    first time say their own mean, and the two are averaged by what each is worth. The first is as
    sure as its drift and, while tasks are still unseen, as n draws of the tasks are.

    Args:
        total: S, the sum of the stored means, before this version.
        num: n, the tasks it is over.
        visits: of this version.
    """
    found: list[Sight] = []
    if len(visits.first_N):
        found.append(_mean(visits.first_N, visits.first_iota_N, FIRST_VARIANCE))
    if num and len(visits.again_N):
        drift = _mean(visits.again_N, visits.again_iota_N, AGAIN_VARIANCE)
        mean = min(1.0, max(0.0, total / num + drift.mean))
        unseen = len(visits.first_N) / (len(visits.first_N) + len(visits.again_N))
        found.append(Sight(mean, drift.variance + mean * (1.0 - mean) / num * unseen))
    if not found:
        return None
    weights = [1.0 / one.variance for one in found]
    worth = math.fsum(weights)
    mean = math.fsum(one.mean * weight for one, weight in zip(found, weights, strict=True)) / worth
    return Sight(mean, 1.0 / worth + FLOOR)


def _mean(values_N: Floats, iota_N: Floats, usual: float) -> Sight:
    """Weighted mean; its variance is `(sum iota^2 e^2 + usual mean iota^2) / (sum iota)^2`."""
    weight = math.fsum(iota_N)
    mean = math.fsum(iota_N * values_N) / weight
    square_N = iota_N * iota_N
    spread = math.fsum(square_N * np.square(values_N - mean))
    return Sight(mean, (spread + usual * math.fsum(square_N) / len(values_N)) / (weight * weight))


def moved(trend: Trend | None, seen: Sight | None) -> Trend | None:
    """The trend one version later; without a sight of it only less sure.

    Args:
        trend: after the version before; None: nothing was seen yet.
        seen: of this version; None: no group had the component.
    """
    if trend is None:
        return None if seen is None else Trend(seen.mean, 0.0, seen.variance, 0.0, SLOPE_VARIANCE)
    level = trend.level + trend.slope
    slope_variance = trend.slope_variance + SLOPE_DRIFT
    covariance = trend.covariance + trend.slope_variance
    level_variance = trend.level_variance + trend.covariance + covariance
    if seen is None:
        return Trend(level, trend.slope, level_variance, covariance, slope_variance)
    total = level_variance + seen.variance
    by_level, by_slope = level_variance / total, covariance / total
    surprise = seen.mean - level
    return Trend(
        level + by_level * surprise,
        trend.slope + by_slope * surprise,
        level_variance * (1.0 - by_level),
        covariance * (1.0 - by_level),
        slope_variance - by_slope * covariance,
    )
