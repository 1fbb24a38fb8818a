"""Statistics of tasks: the folds of algorithms.md 1.1, number for number."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_sampler.statistics import (
    EstimatorConstants,
    OutcomeArrays,
    TaskStatistics,
    empty,
    fold,
    summarise,
)
from support.groups import binary_group, outcomes

CONSTANTS = EstimatorConstants()


def _after(groups: list[OutcomeArrays], *, version: int = 0) -> TaskStatistics:
    """Statistics of one task after its groups, all of one version."""
    stats = empty(1, groups[0].q_NGK.shape[2])
    for group in groups:
        stats = fold(stats, summarise(group), version_N=np.array([version]), constants=CONSTANTS)
    return stats


def _same(one: TaskStatistics, other: TaskStatistics) -> bool:
    """Whether two sets of statistics agree bit for bit."""
    return all(
        getattr(one, field.name).tobytes() == getattr(other, field.name).tobytes()
        for field in fields(TaskStatistics)
    )


def test_counts_decay() -> None:
    once = _after([binary_group(8, 6)])
    assert (once.s_N[0], once.f_N[0]) == (6, 2)
    twice = _after([binary_group(8, 6), binary_group(8, 2)])
    assert twice.s_N[0] == pytest.approx(7.4)
    assert twice.f_N[0] == pytest.approx(7.8)


def test_the_ema_starts_at_the_first_share() -> None:
    groups = [binary_group(4, 1), binary_group(4, 3), binary_group(4, 4)]
    assert _after(groups).ema_N[0] == 0.75


def test_streaks_reset() -> None:
    easy = _after([binary_group(4, 4), binary_group(4, 4)])
    assert (easy.z_easy_N[0], easy.z_hard_N[0], easy.full_N[0]) == (2, 0, 2)
    hard = _after([binary_group(4, 4), binary_group(4, 0), binary_group(4, 0)])
    assert (hard.z_easy_N[0], hard.z_hard_N[0], hard.full_N[0]) == (0, 2, 0)
    mixed = _after([binary_group(4, 0), binary_group(4, 2)])
    assert (mixed.z_easy_N[0], mixed.z_hard_N[0], mixed.full_N[0]) == (0, 0, 0)


@pytest.mark.parametrize(("p", "value"), [(0.1, 0.4190), (0.25, 0.7598), (0.5, 0.9278)])
def test_mean_absolute_advantage(p: float, value: float) -> None:
    expected = sum(
        math.comb(8, m) * p**m * (1 - p) ** (8 - m) * _after([binary_group(8, m)]).abs_a_N[0]
        for m in range(9)
    )
    assert expected == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize(("p", "value"), [(0.01, 0.9044), (0.05, 0.5987), (0.1, 0.3487)])
def test_chance_of_a_hard_group(p: float, value: float) -> None:
    chance = sum(
        math.comb(10, m) * p**m * (1 - p) ** (10 - m)
        for m in range(11)
        if _after([binary_group(10, m)]).z_hard_N[0]
    )
    assert chance == pytest.approx(value, abs=5e-5)


def test_reward_moments_are_emas() -> None:
    first = outcomes([{"format": [1, 1]}], rewards=[[4, 2]])
    second = outcomes([{"format": [1, 1]}], rewards=[[0, 0]])
    stats = _after([first, second], version=5)
    assert stats.reward_mean_N[0] == 1.5
    assert stats.reward_var_N[0] == 0.5
    assert (stats.n_N[0], stats.last_N[0]) == (2, 5)


def test_a_component_that_a_group_lacks_stays_as_it_was() -> None:
    both = outcomes([{"format": [1, 0], "tool_name": [1, 0]}])
    one = outcomes([{"format": [0, 0]}])
    stats = _after([both, one, both])
    assert stats.m_NK[0, :2].tolist() == [0.375, 0.5]
    assert np.isnan(stats.m_NK[0, 2:]).all()


def test_an_empty_task_was_never_seen() -> None:
    stats = empty(3, 2)
    assert stats.last_N.tolist() == [-1, -1, -1]
    assert stats.n_N.tolist() == [0, 0, 0]
    assert np.isnan(stats.m_NK).all()
    assert np.isnan(stats.v_NK).all()


def test_groups_without_a_valid_rollout_are_refused() -> None:
    summary = summarise(outcomes([{"format": [1, 1]}]))
    none = replace(summary, num_valid_N=np.array([0]))
    with pytest.raises(ValueError, match="without a valid rollout"):
        fold(empty(1, 4), none, version_N=np.array([0]), constants=CONSTANTS)


def test_a_rung_of_one_rollout_is_counted() -> None:
    """Hint levels are single rollouts: what the ladder asks is whether the last one succeeded."""
    group = summarise(outcomes([{"format": [1]}]))
    stats = fold(empty(1, 4), group, version_N=np.array([3]), constants=CONSTANTS)
    assert (stats.z_easy_N[0], stats.ema_N[0], stats.last_N[0]) == (1, 1.0, 3)


@pytest.mark.parametrize(
    ("name", "value"), [("a", 0.0), ("lam", 1.1), ("alpha", -0.5), ("max_lag_versions", -1)]
)
def test_constants_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        EstimatorConstants(**{name: value})  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 9), st.integers(1, 5))
def test_a_row_depends_on_no_other_row(seed: int, n: int, size: int, num_components: int) -> None:
    chance = np.random.default_rng(seed)
    stats, alone = empty(n, num_components), empty(1, num_components)
    row = int(chance.integers(n))
    for version in range(3):
        q_NGK = chance.random((n, size, num_components))
        q_NGK[:, :, chance.random(num_components) < 0.3] = np.nan
        arrays = OutcomeArrays(
            q_NGK=q_NGK,
            reward_NG=chance.normal(size=(n, size)),
            success_NG=(chance.random((n, size)) < 0.5).astype(np.float64),
            valid_NG=np.ones((n, size), dtype=np.bool_),
        )
        picked = OutcomeArrays(*(getattr(arrays, f.name)[row : row + 1] for f in fields(arrays)))
        versions = np.full(n, version)
        stats = fold(stats, summarise(arrays), version_N=versions, constants=CONSTANTS)
        alone = fold(alone, summarise(picked), version_N=versions[:1], constants=CONSTANTS)
    assert _same(stats.select(np.array([row])), alone)
    assert _same(stats.select(np.arange(n) == row), alone)
    assert _same(stats.select(slice(row, row + 1)), alone)
