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
SLOPE_DRIFT = 5e-8
"""What a version adds to it: a slope moves by about .0002 a version, .002 in a hundred."""
FLOOR = 2.5e-5
"""Least variance of a version's estimate: .005, squared."""
FIRST_VARIANCE, AGAIN_VARIANCE = 0.12, 0.04
"""Of one group's mean at a first visit, and of its difference to what was stored at a later one."""
APART_VARIANCE = 0.1
"""Square of how far tasks never seen may be from the others in mean."""


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
    first_for_N: Floats
    """For how many tasks each of them stands, up to a factor."""
    again_N: Floats
    """Means less stored means at later visits."""
    again_for_N: Floats
    """For how many tasks each of them stands, up to the same factor."""


def stands_for(probability_N: Floats) -> Floats:
    """For how many tasks each group of a version stands: 1 / the chance that it was drawn at all.

    Of n slots, each its own with probability p, the chance is about `1 - exp(-n p)`, and one over
    it `1 / (n p) + 1 / 2` and less than `n p / 12` more: those two terms, and at least 1. Means
    weighted by it are right however skewed the draw was, but for the bias of a ratio, which falls
    with the number of groups.

    Args:
        probability_N: [N] probability of one slot, of the version's n = N groups.
    """
    expected_N = len(probability_N) * probability_N
    reach_N: Floats = np.maximum(1.0, 1.0 / expected_N + 0.5)
    return reach_N


def sight(total: float, num: int, visits: Visits) -> Sight | None:
    """The difference estimator of 3.4, with first and later visits kept apart; None without any.

    In 3.4 a first visit says "no drift" of all tasks, which dilutes the drift of those seen
    before. Here the tasks seen before say `S / n` plus the mean drift of revisits, the others say
    the mean of first visits, and both count by how many they are, which the visits say, too.
    The variance depends on no outcome: one taken of the same few groups is small where a rare
    task that rose or fell was missed, and would make exactly that sight count for more.

    Args:
        total: S, the sum of the stored means, before this version.
        num: n, the tasks it is over.
        visits: of this version.
    """
    unseen = math.fsum(visits.first_for_N)
    seen = math.fsum(visits.again_for_N) if num else 0.0
    if unseen + seen == 0.0:
        return None
    share = unseen / (unseen + seen)
    mean, variance = 0.0, FLOOR
    if seen:
        drift = math.fsum(visits.again_for_N * visits.again_N) / seen
        mean += (1.0 - share) * (total / num + drift)
        variance += (1.0 - share) ** 2 * AGAIN_VARIANCE * _crowding(visits.again_for_N)
    if unseen:
        mean += share * math.fsum(visits.first_for_N * visits.first_N) / unseen
        variance += share**2 * FIRST_VARIANCE * _crowding(visits.first_for_N)
    if seen and unseen:
        everyone = np.concatenate([visits.first_for_N, visits.again_for_N])
        variance += share * (1.0 - share) * APART_VARIANCE * _crowding(everyone)
    return Sight(mean, variance)


def _crowding(for_N: Floats) -> float:
    """`sum f^2 / (sum f)^2`: 1 / the number of groups that would say as much, drawn alike."""
    total = math.fsum(for_N)
    return math.fsum(for_N * for_N) / (total * total)


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
