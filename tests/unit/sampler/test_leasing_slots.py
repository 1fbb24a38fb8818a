"""Slots per lane and the probability of one slot, number for number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_sampler.curriculum import importance
from etude_sampler.leasing import allot_slots, slot_probability
from etude_sampler.statistics import Floats
from support.groups import COMPONENTS
from support.shared_data import Examples, examples

DSCL = "dscl_examples.json"
LANES = ("uniform", *COMPONENTS, "hard")
"""Lane order, with the lane of hard tasks where an example has one."""


def _middle_shares() -> Floats:
    weights = next(
        case.numbers("target_w")
        for case in examples(DSCL).rows("tdcl")
        if case.text("name") == "middle"
    )
    total = sum(weights.values())
    return np.array([0.1, *(0.9 * weights[name] / total for name in COMPONENTS)])


def _named(values: list[float]) -> dict[str, float]:
    return dict(zip(LANES, values, strict=False))


def test_shares_of_the_middle_target() -> None:
    expected = examples(DSCL).numbers("shares_middle_target")
    assert _named(_middle_shares().tolist()) == pytest.approx(expected, abs=1e-6)


def test_two_batches_of_sixteen() -> None:
    case = examples(DSCL).at("slots", 0)
    first, credit = allot_slots(_middle_shares(), np.zeros(5), 16)
    assert _named(first.tolist()) == case.numbers("first")
    assert _named(credit.tolist()) == pytest.approx(case.numbers("credit_after"), abs=2e-6)
    second, _ = allot_slots(_middle_shares(), credit, 16)
    assert _named(second.tolist()) == case.numbers("second")


def test_ten_batches_of_one() -> None:
    case = examples(DSCL).at("slots", 1)
    credit, lanes = np.zeros(5), []
    for _ in range(10):
        slots, credit = allot_slots(_middle_shares(), credit, 1)
        lanes.append(LANES[int(np.argmax(slots))])
    assert lanes == [case.text("lane_of_each_of_10_leases", place) for place in range(10)]


@pytest.mark.parametrize(("place", "num_slots"), [(2, 10), (3, 512)])
def test_equal_component_lanes(place: int, num_slots: int) -> None:
    case = examples(DSCL).at("slots", place)
    slots, _ = allot_slots(np.array([0.1] + [0.225] * 4), np.zeros(5), num_slots)
    assert case.number("B") == num_slots
    assert _named(slots.tolist()) == case.numbers("first")


def test_a_batch_with_a_hard_lane() -> None:
    case = examples(DSCL).at("slots", 4)
    shares = case.numbers("shares")
    slots, _ = allot_slots(np.array([shares[lane] for lane in LANES]), np.zeros(6), 20)
    assert _named(slots.tolist()) == case.numbers("first")


@settings(deadline=None)
@given(
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
)
def test_slots_sum_to_the_batch_and_credits_to_nothing(
    parts: list[float], batches: list[int]
) -> None:
    shares = np.array(parts) / sum(parts)
    credit, dealt = np.zeros(len(parts)), np.zeros(len(parts), np.int64)
    for num_slots in batches:
        slots, credit = allot_slots(shares, credit, num_slots)
        assert slots.sum() == num_slots
        assert (slots >= 0).all()
        assert abs(credit.sum()) < 1e-9
        dealt += slots
    # What a lane got never strays from its share by more than the number of lanes.
    assert np.abs(dealt - shares * sum(batches)).max() <= len(parts)


def test_ties_go_to_the_first_component_lane_and_to_uniform_last() -> None:
    shares = np.array([0.25 + 1e-12, 0.25, 0.25 + 1e-12, 0.25])
    credit, picks = np.zeros(4), []
    for _ in range(4):
        slots, credit = allot_slots(shares, credit, 1)
        picks.append(int(np.argmax(slots)))
    assert picks == [1, 2, 3, 0]
    assert allot_slots(np.ones(1), np.zeros(1), 3)[0].tolist() == [3]


def _example_weights(
    case: Examples,
) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    names = ["t1", "t2", "t3", "t4"]
    rows = [case.numbers("lane_weights", name) for name in names]
    weights = [[1.0, *(row.get(lane, 0.0) for lane in COMPONENTS)] for row in rows]
    return names, np.array(weights)


def test_slot_probability_and_importance() -> None:
    case = examples(DSCL).at("pick_probability")
    names, weights_NL = _example_weights(case)
    totals = case.numbers("lane_totals")
    totals_L = np.array([4.0, *(totals[lane] for lane in COMPONENTS)])
    assert totals_L == pytest.approx(weights_NL.sum(axis=0))
    shares = case.numbers("shares")
    shares_L = np.array([shares[lane] for lane in LANES[:5]])
    probability = slot_probability(weights_NL, totals_L, shares_L)
    expected = case.numbers("p")
    assert dict(zip(names, probability.tolist(), strict=True)) == pytest.approx(expected, abs=1e-6)
    iota = importance(probability, 4)
    assert dict(zip(names, iota.tolist(), strict=True)) == pytest.approx(
        case.numbers("iota"), abs=1e-5
    )


def test_importance_is_clipped() -> None:
    iota = importance(np.array([1e-9, 0.0, 1.0, 0.5]), np.array([10, 10, 1000, 0]))
    assert iota.tolist() == [10.0, 10.0, 0.1, 2.0]


def test_an_empty_lane_counts_for_uniform() -> None:
    weights_NL = np.array([[1.0, 3.0, 0.0], [1.0, 1.0, 0.0]])
    probability = slot_probability(weights_NL, weights_NL.sum(axis=0), np.array([0.2, 0.5, 0.3]))
    assert probability.tolist() == pytest.approx([0.25 + 0.375, 0.25 + 0.125])
    nothing = slot_probability(np.zeros((1, 2)), np.zeros(2), np.array([0.5, 0.5]))
    assert nothing.tolist() == [0.0]
