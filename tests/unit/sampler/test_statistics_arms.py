"""Both arms in sums: intervals against textbook values, what adding keeps, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_sampler.statistics.arms import (
    UNKNOWN,
    ArmSums,
    GroupFacts,
    Interval,
    difference,
    mean_of,
    sum_groups,
    wilson,
)


def groups(*facts: tuple[int, int, float, int]) -> list[GroupFacts]:
    return [GroupFacts(n, m, r, t, is_informative=0 < m < n) for n, m, r, t in facts]


FACTS = st.builds(
    GroupFacts,
    num_rollouts=st.integers(2, 64),
    num_success=st.integers(0, 2),
    reward=st.floats(-192, 256),
    num_tokens=st.integers(0, 1 << 16),
    is_informative=st.booleans(),
)


@pytest.mark.parametrize(
    ("m", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_wilson_gives_the_textbook_values(m: int, n: int, low: float, high: float) -> None:
    found = wilson(m, n)
    assert (found.mean, found.low, found.high) == pytest.approx((m / n, low, high), abs=5e-5)


def test_the_difference_of_shares_is_newcombes() -> None:
    """56 of 70 against 48 of 80, the example of Newcombe (1998), method 10."""
    found = difference(wilson(56, 70), wilson(48, 80))
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert found.excludes_zero
    assert not difference(wilson(5, 10), wilson(4, 10)).excludes_zero


def test_a_ratio_by_hand() -> None:
    """Successes 2 of 4 and 3 of 4: ratio .625, residuals -.5 and .5."""
    sums = sum_groups(groups((4, 2, 1.0, 10), (4, 3, 3.0, 30)))
    half = 1.959964 * np.sqrt(0.5 * 2 / 1) / 8
    found = sums.success_rate
    assert (found.mean, found.low, found.high) == pytest.approx((0.625, 0.625 - half, 0.625 + half))
    assert sums.mean_reward.mean == pytest.approx(0.5)
    tokens = sums.reward_per_1k_tokens
    assert tokens.mean == pytest.approx(100.0)
    # Reward goes with tokens exactly: nothing is left to chance.
    assert (tokens.low, tokens.high) == pytest.approx((100.0, 100.0))


def test_little_is_not_made_up() -> None:
    nothing, one = ArmSums(), sum_groups(groups((4, 2, 1.0, 0)))
    assert nothing.success_rate == nothing.informative_share == UNKNOWN
    assert one.success_rate == Interval(0.5, None, None)
    assert one.reward_per_1k_tokens == UNKNOWN
    two = sum_groups(groups((4, 2, 1.0, 8), (4, 1, 1.0, 8)))
    assert difference(two.success_rate, one.success_rate) == Interval(-0.125, None, None)
    assert difference(two.success_rate, nothing.success_rate) == UNKNOWN
    assert mean_of([]) == UNKNOWN
    assert mean_of([0.5]) == Interval(0.5, None, None)
    assert not UNKNOWN.excludes_zero


def test_the_mean_of_paired_differences() -> None:
    found = mean_of([1.0, 2.0, 3.0, 4.0])
    half = 1.959964 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert (found.mean, found.low, found.high) == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    assert found.excludes_zero
    assert mean_of([-2.0, -2.0, -2.1]).excludes_zero


@given(st.lists(FACTS, max_size=8), st.lists(FACTS, max_size=8))
def test_sums_of_parts_are_the_sum(one: list[GroupFacts], other: list[GroupFacts]) -> None:
    parts, whole = sum_groups(one) + sum_groups(other), sum_groups(one + other)
    assert list(parts.to_json().values()) == pytest.approx(list(whole.to_json().values()))
    assert ArmSums.from_json(whole.to_json()) == whole
    for name in ("informative_share", "success_rate", "mean_reward", "reward_per_1k_tokens"):
        found = getattr(whole, name)
        if found.low is not None:
            assert found.low <= found.mean <= found.high


@pytest.mark.no_cover
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """2,000 made-up arms of 60 groups: success depends on the task, tokens on success."""
    rng = np.random.default_rng(5)
    hits = np.zeros(3)
    for _ in range(2000):
        chance = rng.beta(1.0, 2.0, size=60)
        m = rng.binomial(8, chance)
        tokens = rng.poisson(200 + 100 * m)
        sums = sum_groups(
            GroupFacts(8, int(a), float(a), int(t), is_informative=0 < a < 8)
            for a, t in zip(m, tokens, strict=True)
        )
        # E m = 8/3; P(mixed) for Beta(1, 2), G = 8: 1 - 1/45 - 2/10.
        truths = ((sums.success_rate, 1 / 3), (sums.reward_per_1k_tokens, 1e3 * (8 / 3) / 466.6667))
        for i, (found, truth) in enumerate((*truths, (sums.informative_share, 1 - 1 / 45 - 0.2))):
            assert found.low is not None
            assert found.high is not None
            hits[i] += found.low <= truth <= found.high
    assert np.all(np.abs(hits / 2000 - 0.95) < 0.02), hits / 2000
