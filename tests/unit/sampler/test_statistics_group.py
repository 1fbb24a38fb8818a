"""Summaries of groups: moments over valid rollouts, in an order that a rebuild repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_sampler.curriculum.gates.zero_variance import ZeroVarianceGate
from etude_sampler.statistics import Floats, OutcomeArrays, summarise
from etude_sampler.statistics.arrays import sum_over_group
from support.groups import binary_group, outcomes


def _padded(group: Floats, size: int) -> OutcomeArrays:
    """One group of one component, padded to `size` rollouts."""
    q_NGK = np.full((1, size, 1), np.nan)
    q_NGK[0, : len(group), 0] = group
    return OutcomeArrays(
        q_NGK=q_NGK,
        reward_NG=q_NGK[:, :, 0],
        success_NG=q_NGK[:, :, 0],
        valid_NG=~np.isnan(q_NGK[:, :, 0]),
    )


def test_moments_are_population_moments() -> None:
    summary = summarise(outcomes([{"format": [1, 1, 1, 0]}], rewards=[[4, 2, 0, -2]]))
    assert summary.mean_NK[0, 0] == 0.75
    assert summary.var_NK[0, 0] == 0.1875
    assert np.isnan(summary.mean_NK[0, 1:]).all()
    assert np.isnan(summary.var_NK[0, 1:]).all()
    assert summary.reward_mean_N[0] == 1.0
    assert summary.reward_var_N[0] == 5.0
    assert summary.num_valid_N[0] == 4
    assert summary.num_success_N[0] == 3


def test_invalid_rollouts_count_for_nothing() -> None:
    q_NGK = np.array([[[1.0], [0.0], [0.0], [np.nan]]])
    summary = summarise(
        OutcomeArrays(
            q_NGK=q_NGK,
            reward_NG=np.array([[1.0, 0.0, 0.0, np.nan]]),
            success_NG=np.array([[1.0, 0.0, 1.0, np.nan]]),
            valid_NG=np.array([[True, True, False, False]]),
        )
    )
    assert summary.num_valid_N.tolist() == [2]
    assert summary.num_success_N.tolist() == [1]
    assert summary.mean_NK.tolist() == [[0.5]]
    assert summary.reward_mean_N.tolist() == [0.5]


def test_a_group_without_valid_rollouts_has_no_moments() -> None:
    group = _padded(np.array([]), 4)
    summary = summarise(group)
    assert summary.num_valid_N.tolist() == [0]
    assert math.isnan(summary.mean_NK[0, 0])
    assert math.isnan(summary.reward_mean_N[0])
    assert not summary.full_N[0]


@pytest.mark.parametrize(
    ("values", "full"),
    [
        ({"format": [1, 1], "tool_name": [1, 1]}, True),
        ({"format": [1, 1]}, True),
        ({"format": [1, 1], "tool_name": [1, 0.99]}, False),
        ({"format": [0, 1]}, False),
    ],
)
def test_full_means_every_active_component_of_every_rollout(
    values: dict[str, list[float]], full: bool
) -> None:
    assert summarise(outcomes([values])).full_N.tolist() == [full]


def test_a_task_without_components_is_never_full() -> None:
    empty = outcomes([{"format": [1, 1]}], names=("format",))
    without = OutcomeArrays(
        q_NGK=empty.q_NGK[:, :, :0],
        reward_NG=empty.reward_NG,
        success_NG=empty.success_NG,
        valid_NG=empty.valid_NG,
    )
    assert summarise(without).full_N.tolist() == [False]


@pytest.mark.parametrize(
    ("p", "size", "mixed"), [(0.25, 4, 0.6797), (0.1, 8, 0.5695), (0.5, 8, 0.9922)]
)
def test_the_gate_admits_mixed_groups_as_often_as_the_identity_says(
    p: float, size: int, mixed: float
) -> None:
    gate = ZeroVarianceGate(1e-8, on_components=False)
    admitted = [bool(gate.admit(summarise(binary_group(size, m)))[0]) for m in range(size + 1)]
    chance = [math.comb(size, m) * p**m * (1 - p) ** (size - m) for m in range(size + 1)]
    assert sum(c for c, a in zip(chance, admitted, strict=True) if a) == pytest.approx(
        mixed, abs=5e-5
    )
    assert 1 - p**size - (1 - p) ** size == pytest.approx(mixed, abs=5e-5)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 40), st.integers(1, 6))
def test_padding_and_neighbours_change_no_bit(values: list[float], padding: int, rows: int) -> None:
    group = np.array(values)
    alone = summarise(_padded(group, len(values)))
    padded = _padded(group, len(values) + padding)
    among = summarise(
        OutcomeArrays(
            q_NGK=np.repeat(padded.q_NGK, rows, axis=0),
            reward_NG=np.repeat(padded.reward_NG, rows, axis=0),
            success_NG=np.repeat(padded.success_NG, rows, axis=0),
            valid_NG=np.repeat(padded.valid_NG, rows, axis=0),
        )
    )
    for name in ("mean_NK", "var_NK", "reward_mean_N", "reward_var_N"):
        one, many = getattr(alone, name), getattr(among, name)
        assert one.tobytes() == many[:1].tobytes() == many[-1:].tobytes()
    assert alone.mean_NK[0, 0] == pytest.approx(np.mean(group), abs=1e-12)
    assert alone.var_NK[0, 0] == pytest.approx(np.var(group), abs=1e-12)
    assert 0.0 <= alone.mean_NK[0, 0] <= 1.0


def test_an_empty_group_cannot_be_summed() -> None:
    with pytest.raises(ValueError, match="at least one rollout"):
        sum_over_group(np.zeros((3, 0)))


def test_shapes_that_disagree_are_refused() -> None:
    good = binary_group(4, 2)
    with pytest.raises(ValueError, match="q_NGK must be"):
        OutcomeArrays(
            q_NGK=good.q_NGK[:, :0],
            reward_NG=good.reward_NG,
            success_NG=good.success_NG,
            valid_NG=good.valid_NG,
        )
    with pytest.raises(ValueError, match="success_NG must be"):
        OutcomeArrays(
            q_NGK=good.q_NGK,
            reward_NG=good.reward_NG,
            success_NG=good.success_NG[:, :2],
            valid_NG=good.valid_NG,
        )
