"""Intervals of shares and of weighted means of shares. Pure.

Used by `summary.py`. Wilson's score interval for one share; for a mean over domains the intervals
are combined by MOVER (Zou and Donner 2008), which stays honest where a domain has no right answer
and a bootstrap would claim certainty.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its 95 % interval; all in 0 to 1."""

    value: float
    low: float
    high: float


def wilson(num_right: int, num_items: int, *, z: float = Z_95) -> Estimate:
    """Wilson (1927): the score interval of a binomial share.

    Raises:
        ValueError: no items, or more right ones than there are.
    """
    if not 0 <= num_right <= num_items or num_items == 0:
        raise ValueError(f"{num_right} right of {num_items}")
    share = num_right / num_items
    widening = z * z / num_items
    centre = (share + widening / 2) / (1 + widening)
    half = z * sqrt(share * (1 - share) / num_items + widening / (4 * num_items)) / (1 + widening)
    # At none and all right the formula meets the share, but for rounding.
    low, high = min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
    return Estimate(share, low, high)


def weighted_mean(parts: Iterable[tuple[float, Estimate]]) -> Estimate:
    """Sum of weight x estimate of independent shares; the weights sum to 1."""
    value = low = high = 0.0
    for weight, part in parts:
        value += weight * part.value
        low += (weight * (part.value - part.low)) ** 2
        high += (weight * (part.high - part.value)) ** 2
    return Estimate(value, max(0.0, value - sqrt(low)), min(1.0, value + sqrt(high)))
