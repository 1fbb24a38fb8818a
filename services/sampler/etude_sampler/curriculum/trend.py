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
LONE_VARIANCE = 0.04
"""Of the difference of a single group, which shows no spread."""


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


def sight(
    before: tuple[float, int], new_mean_N: Floats, differences_N: Floats, iota_N: Floats
) -> Sight:
    """The difference estimator of 3.4, with first visits and revisits kept apart.

    In 3.4 a first visit says "no drift" for all tasks; while tasks are seen for the first time,
    this dilutes the drift of those that were seen before. Here new tasks carry their own mean and
    the drift of revisits is that of the tasks seen before alone:
    `mean = (S + sum new + n sum(iota d) / sum(iota)) / (n + new)`. Its variance is that of the
    drift and, for the tasks not seen yet, `mean (1 - mean) / seen` times the share of first visits.

    Args:
        before: sum of the stored means and number of tasks, before this version.
        new_mean_N: means of the tasks seen for the first time.
        differences_N: mean less stored mean of each revisit.
        iota_N: importance of each revisit.
    """
    total, num = before
    seen = num + len(new_mean_N)
    drift = variance = 0.0
    if len(differences_N):
        weight = math.fsum(iota_N)
        drift = math.fsum(iota_N * differences_N) / weight
        variance = _variance(differences_N - drift, iota_N, weight)
    share = num / seen
    mean = math.fsum([total, *new_mean_N, num * drift]) / seen
    unseen = len(new_mean_N) / (len(new_mean_N) + len(differences_N))
    bounded = min(1.0, max(0.0, mean))
    sampling = bounded * (1.0 - bounded) / seen * unseen
    return Sight(mean, variance * share * share + sampling + FLOOR)


def _variance(residuals_N: Floats, iota_N: Floats, weight: float) -> float:
    """Of a weighted mean: `N / (N - 1) sum(iota^2 e^2) / sum(iota)^2`."""
    num = len(residuals_N)
    if num < 2:
        return LONE_VARIANCE
    deviation_N = iota_N * residuals_N
    return num / (num - 1) * math.fsum(np.square(deviation_N)) / (weight * weight)


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
