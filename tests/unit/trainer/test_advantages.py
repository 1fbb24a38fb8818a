"""Advantages against the numbers of algorithms.md, sections 1, 4.4 and 7."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude_trainer.algorithms.advantages import EPSILON, group_advantages, grpo, whiten

TOLERANCE = 5e-5


def advantages(*rewards: float, **options: float) -> list[float]:
    rewards_G = torch.tensor(rewards, dtype=torch.float64)
    found = group_advantages(rewards_G, kind="grpo", std_floor=options.get("std_floor"))
    return [float(value) for value in found]


def population(*rewards: float) -> list[float]:
    rewards_G = torch.tensor(rewards, dtype=torch.float64)
    return [float(value) for value in grpo(rewards_G, std_floor=None, population=True)]


def test_one_success_in_four() -> None:
    assert advantages(1, 0, 0, 0) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=TOLERANCE)
    want = [1.7321, -0.5774, -0.5774, -0.5774]
    assert population(1, 0, 0, 0) == pytest.approx(want, abs=1e-4)  # 4e-6 below, by the 1e-6


def test_one_replaced_success_in_eight() -> None:
    """Section 6: hints, G = 8."""
    rewards = [1.0] + [0.0] * 7
    want = [2.4749] + [-0.3536] * 7
    assert advantages(*rewards) == pytest.approx(want, abs=TOLERANCE)
    want = [2.6458] + [-0.3780] * 7
    assert population(*rewards) == pytest.approx(want, abs=1e-4)  # 8e-6 below, by the 1e-6


@pytest.mark.parametrize(("p", "want"), [(0.1, 0.4190), (0.25, 0.7598), (0.5, 0.9278)])
def test_expected_size_of_the_advantage(p: float, want: float) -> None:
    total = 0.0
    for m in range(9):
        sizes = [abs(a) for a in population(*([1.0] * m + [0.0] * (8 - m)))]
        total += math.comb(8, m) * p**m * (1 - p) ** (8 - m) * sum(sizes) / 8
    assert total == pytest.approx(want, abs=TOLERANCE)


@pytest.mark.parametrize("m", range(9))
def test_identity_of_binary_rewards(m: int) -> None:
    share = m / 8
    sizes = [abs(a) for a in population(*([1.0] * m + [0.0] * (8 - m)))]
    assert sum(sizes) / 8 == pytest.approx(2 * math.sqrt(share * (1 - share)), abs=1e-5)
    assert (sum(sizes) == 0.0) == (m in (0, 8))


def test_a_small_bonus_needs_the_floor() -> None:
    # The specification's 1.5 leaves out the 1e-6 in the divisor, which takes .0003 off here.
    assert advantages(1.01, 1, 1, 1) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=5e-4)
    want = [0.075, -0.025, -0.025, -0.025]
    assert advantages(1.01, 1, 1, 1, std_floor=0.1) == pytest.approx(want, abs=TOLERANCE)
    want = [0.025, -0.0083, -0.0083, -0.0083]
    assert advantages(4.01, 4, 4, 4, std_floor=0.3) == pytest.approx(want, abs=TOLERANCE)


def test_kl_in_the_reward_is_noise_at_full_size() -> None:
    found = advantages(*(3.0 - 0.001 * kl for kl in (5, 10, 15, 20)))
    assert found == pytest.approx([1.162, 0.387, -0.387, -1.162], abs=5e-4)


def test_dr_grpo_divides_by_nothing() -> None:
    found = group_advantages(torch.tensor([4.0, 2.0, 0.0, -2.0]), kind="dr_grpo")
    assert found.tolist() == [3.0, 1.0, -1.0, -3.0]
    with pytest.raises(ValueError, match="std_floor"):
        group_advantages(torch.tensor([1.0, 0.0]), kind="dr_grpo", std_floor=0.1)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo"])
@pytest.mark.parametrize("reward", [0.1, -3.0, 4.0, 1 / 3])
@pytest.mark.parametrize("size", [1, 2, 8])
def test_equal_rewards_teach_exactly_nothing(kind: str, reward: float, size: int) -> None:
    found = group_advantages(torch.full((size,), reward), kind=kind)  # type: ignore[arg-type]
    assert found.tolist() == [0.0] * size


@pytest.mark.parametrize("rewards", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_rewards_that_are_no_rewards(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match="rewards must be"):
        group_advantages(torch.tensor(rewards), kind="grpo")


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=16), st.floats(-5, 5))
def test_advantages_are_centred_bounded_and_blind_to_shifts(
    rewards: list[float], shift: float
) -> None:
    found = advantages(*rewards)
    assert sum(found) == pytest.approx(0.0, abs=1e-4)
    assert all(abs(a) <= math.sqrt(len(rewards)) for a in found)
    if max(rewards) - min(rewards) > 1e-3:
        moved = advantages(*(reward + shift for reward in rewards))
        assert moved == pytest.approx(found, abs=1e-6)


def test_whitening_a_batch() -> None:
    white = whiten(torch.tensor([3.0, 1.0, -1.0, 5.0], dtype=torch.float64))
    assert float(white.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(white.std()) == pytest.approx(1.0, abs=2 * EPSILON)
    for equal in (torch.zeros(0), torch.tensor([0.5]), torch.tensor([2.0, 2.0])):
        assert whiten(equal).tolist() == [0.0] * len(equal)
