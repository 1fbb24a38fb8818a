"""The two arms of a run as sums that add up, and what they say with 95 % intervals.

Groups are the unit: rollouts of one group are not independent. Shares of groups get Wilson's
interval, ratios of sums (success, reward per rollout or per token) the linearised one. Groups are
taken as independent of each other, though a task comes back: our choice. Neighbours: `service.arms`
sums ledger rows, `etude runs compare` adds up versions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

Z: Final = 1.959964
"""97.5 % point of the normal distribution."""
FEWEST_GROUPS: Final = 2
"""Groups below which a ratio has no interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval; None where there is too little to say."""

    mean: float | None
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval says more than chance would."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


UNKNOWN: Final = Interval(None, None, None)


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What the arms need of one un-scaffolded group; sums run over its valid rollouts."""

    num_rollouts: int
    num_success: int
    reward: float
    """Sum of the rule rewards."""
    num_tokens: int
    is_informative: bool
    """The rule reward varied."""


@dataclass(frozen=True, slots=True)
class ArmSums:
    """First and second moments of an arm's groups; sums of sums are sums."""

    num_groups: float = 0.0
    num_informative: float = 0.0
    num_rollouts: float = 0.0
    num_success: float = 0.0
    reward: float = 0.0
    num_tokens: float = 0.0
    rollouts_sq: float = 0.0
    success_sq: float = 0.0
    reward_sq: float = 0.0
    tokens_sq: float = 0.0
    success_rollouts: float = 0.0
    """Sum over groups of successes times rollouts; the next two alike."""
    reward_rollouts: float = 0.0
    reward_tokens: float = 0.0

    def __add__(self, other: ArmSums) -> ArmSums:
        """Both together."""
        return ArmSums(*(getattr(self, n) + getattr(other, n) for n in _NAMES))

    def to_json(self) -> dict[str, float]:
        """By name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, float]) -> ArmSums:
        """The inverse; what is not there is 0."""
        return cls(*(float(values.get(name, 0.0)) for name in _NAMES))

    @property
    def informative_share(self) -> Interval:
        """Groups whose reward varied over all groups (Wilson)."""
        return wilson(self.num_informative, self.num_groups)

    @property
    def success_rate(self) -> Interval:
        """Successes over valid rollouts."""
        return self._ratio(
            self.num_success,
            self.num_rollouts,
            squares=self.success_sq,
            products=self.success_rollouts,
            base_squares=self.rollouts_sq,
        )

    @property
    def mean_reward(self) -> Interval:
        """Rule reward of a valid rollout."""
        return self._ratio(
            self.reward,
            self.num_rollouts,
            squares=self.reward_sq,
            products=self.reward_rollouts,
            base_squares=self.rollouts_sq,
        )

    @property
    def reward_per_1k_tokens(self) -> Interval:
        """Rule reward earned by 1,000 sampled tokens."""
        found = self._ratio(
            self.reward,
            self.num_tokens,
            squares=self.reward_sq,
            products=self.reward_tokens,
            base_squares=self.tokens_sq,
        )
        return _scaled(found, 1000.0)

    def _ratio(
        self, top: float, base: float, *, squares: float, products: float, base_squares: float
    ) -> Interval:
        """`sum y / sum x` over groups, with the linearised (delta method) interval."""
        if base <= 0.0:
            return UNKNOWN
        ratio, n = top / base, self.num_groups
        if n < FEWEST_GROUPS:
            return Interval(ratio, None, None)
        # Sum of squared residuals y - ratio x; rounding may take it a hair below zero.
        residual = max(0.0, squares - 2.0 * ratio * products + ratio * ratio * base_squares)
        half = Z * math.sqrt(residual * n / (n - 1.0)) / base
        return Interval(ratio, ratio - half, ratio + half)


_NAMES: Final = tuple(field.name for field in fields(ArmSums))


def sum_groups(groups: Iterable[GroupFacts]) -> ArmSums:
    """The sums of some groups."""
    total = ArmSums()
    for one in groups:
        g, s, r, t = one.num_rollouts, one.num_success, one.reward, one.num_tokens
        total += ArmSums(
            1.0,
            float(one.is_informative),
            g,
            s,
            r,
            t,
            g * g,
            s * s,
            r * r,
            t * t,
            s * g,
            r * g,
            r * t,
        )
    return total


def wilson(successes: float, trials: float) -> Interval:
    """Wilson's score interval of a share."""
    if trials <= 0.0:
        return UNKNOWN
    share, z2 = successes / trials, Z * Z
    centre = (share + z2 / (2.0 * trials)) / (1.0 + z2 / trials)
    half = Z / (1.0 + z2 / trials)
    half *= math.sqrt(share * (1.0 - share) / trials + z2 / (4.0 * trials * trials))
    # At 0 and at all the exact bound is the share itself; rounding must not pass it.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def difference(one: Interval, other: Interval) -> Interval:
    """`one - other` of independent estimates: each side's distance to its bound, in squares.

    For two Wilson intervals it is Newcombe's hybrid score interval (1998, method 10); for two
    symmetric ones the usual normal interval.
    """
    if one.mean is None or other.mean is None:
        return UNKNOWN
    gap = one.mean - other.mean
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Interval(gap, None, None)
    low = gap - math.hypot(one.mean - one.low, other.high - other.mean)
    high = gap + math.hypot(one.high - one.mean, other.mean - other.low)
    return Interval(gap, low, high)


def mean_of(values: Iterable[float]) -> Interval:
    """Mean of independent values with its normal interval, for paired differences."""
    given = list(values)
    if not given:
        return UNKNOWN
    n = len(given)
    mean = math.fsum(given) / n
    if n < FEWEST_GROUPS:
        return Interval(mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in given) / (n - 1))
    half = Z * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def _scaled(one: Interval, factor: float) -> Interval:
    return Interval(*(None if x is None else x * factor for x in (one.mean, one.low, one.high)))
