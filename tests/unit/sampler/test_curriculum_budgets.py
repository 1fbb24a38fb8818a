"""Budgets: section 5's examples, the knapsack against brute force, totals and bounds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1 import RunLimits
from etude_proto.v1.curriculum import CurriculumConfig, ResolvedCurriculum
from etude_sampler.curriculum import ConfigFault, Context, Curriculum, build, check_fit, resolve
from etude_sampler.curriculum.allotment import Allotment, BudgetInput
from etude_sampler.curriculum.budgets.group_size import GroupSizeBudget, GroupSizeConfig
from etude_sampler.curriculum.budgets.knapsack import best_rollouts, value
from etude_sampler.curriculum.budgets.recent import last_rewards
from etude_sampler.curriculum.budgets.shares import apportion
from etude_sampler.curriculum.budgets.speed import continues, expected_rollouts
from etude_sampler.statistics import (
    EstimatorConstants,
    Floats,
    TaskStatistics,
    empty,
    fold,
    summarise,
)
from support.groups import COMPONENTS, binary_group

P = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8])
"""Success probabilities of the examples."""


def _resolved(name: str, **knobs: JsonValue) -> ResolvedCurriculum:
    part: JsonValue = {"name": name, "knobs": knobs}
    config = CurriculumConfig.model_validate({"preset": "uniform", "budget": part})
    return resolve(config, dataset_subtasks=COMPONENTS)


def _made(name: str, **knobs: JsonValue) -> Curriculum:
    return build(_resolved(name, **knobs))


def _allot(curriculum: Curriculum, stats: TaskStatistics, *, group_size: int = 16) -> Allotment:
    assert curriculum.budget is not None
    return curriculum.budget.allot(BudgetInput(stats, group_size))


def _successes(p_N: Floats) -> TaskStatistics:
    """Tasks whose posterior mean of success is p."""
    return replace(empty(len(p_N), 1), s_N=1000 * p_N - 1, f_N=1000 * (1 - p_N) - 1)


def _seen(curriculum: Curriculum, groups: list[list[tuple[int, int]]]) -> TaskStatistics:
    """One row a task, after its groups of (right, rollouts)."""
    fresh = curriculum.shape.fresh
    rows = []
    for task in groups:
        stats = empty(1, 1, fresh)
        for right, size in task:
            stats = fold(
                stats,
                summarise(binary_group(size, right)),
                version_N=np.zeros(1, np.int64),
                constants=EstimatorConstants(),
                notes=curriculum.notes,
            )
        rows.append(stats)
    return TaskStatistics(
        *(np.concatenate([getattr(row, name) for row in rows]) for name in TaskStatistics.__slots__)
    )


def test_cures_quotas() -> None:
    found = _allot(_made("cures"), _successes(P))
    assert found.num_rollouts_B.tolist() == [10, 14, 19, 21, 18, 14]
    assert found.screen_B.tolist() == [0] * 6
    assert found.train_B.all()


def test_unseen_tasks_get_the_same_from_cures() -> None:
    found = _allot(_made("cures"), empty(3, 1), group_size=7)
    assert found.num_rollouts_B.tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    ("total", "rollouts"),
    [
        (24, [2, 5, 7, 5, 3, 2]),
        (48, [9, 14, 10, 6, 7, 2]),
        (96, [29, 24, 15, 8, 11, 9]),
    ],
)
def test_knapsack(total: int, rollouts: list[int]) -> None:
    assert best_rollouts(P, total, low=2, high=128).tolist() == rollouts
    curriculum = _made("knapsack")
    seen = _seen(curriculum, [[(round(16 * p), 16)] for p in P.tolist()])
    assert _allot(curriculum, seen, group_size=total // 6).num_rollouts_B.tolist() == rollouts


@settings(deadline=None, max_examples=60)
@given(
    p=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4),
    spare=st.integers(0, 14),
    high=st.integers(2, 7),
)
def test_knapsack_is_exact(p: list[float], spare: int, high: int) -> None:
    """No other way to spend the rollouts is worth more."""
    p_N, num = np.array(p), len(p)
    total = min(2 * num + spare, high * num)
    found = best_rollouts(p_N, total, low=2, high=high)
    assert found.sum() == total
    assert found.min() >= 2
    assert found.max() <= high
    ways = itertools.product(range(2, high + 1), repeat=num)
    best = max(float(value(p_N, np.array(way)).sum()) for way in ways if sum(way) == total)
    assert float(value(p_N, found).sum()) == pytest.approx(best, rel=1e-9)


def test_ties_of_the_knapsack_go_to_fewer_rollouts_and_then_in_order() -> None:
    same = np.full(4, 0.3)
    assert best_rollouts(same, 14, low=2, high=9).tolist() == [4, 4, 3, 3]
    assert best_rollouts(same, 8, low=2, high=9).tolist() == [2] * 4
    assert best_rollouts(same, 99, low=2, high=9).tolist() == [9] * 4
    assert best_rollouts(np.zeros(0), 5, low=2, high=9).tolist() == []


def test_knapsack_classes() -> None:
    """Unseen: G. All alike: 2. What the mixed ones cannot take goes to p = 0 before p = 1."""
    curriculum = _made("knapsack", high=10)
    seen = _seen(curriculum, [[(0, 8)], [(8, 8)], [(3, 7)], [(4, 8)], []])
    found = _allot(curriculum, seen, group_size=8).num_rollouts_B
    assert found.tolist() == [10, 4, 8, 10, 8]
    easy = _seen(curriculum, [[(8, 8)], [(4, 8)], [(5, 8)]])
    assert _allot(curriculum, easy, group_size=10).num_rollouts_B.tolist() == [10, 10, 10]
    assert _allot(curriculum, easy, group_size=4).num_rollouts_B.tolist() == [2, 5, 5]
    unseen = _seen(curriculum, [[], [(8, 8)], [(8, 8)]])
    assert _allot(curriculum, unseen, group_size=9).num_rollouts_B.tolist() == [9, 9, 9]


def test_what_nobody_else_can_take_goes_to_the_unseen() -> None:
    """With everyone else full. G at the bound leaves no choice."""
    curriculum = _made("knapsack", high=8)
    seen = _seen(curriculum, [[], [(4, 8)], [(0, 8)]])
    assert _allot(curriculum, seen, group_size=8).num_rollouts_B.tolist() == [8, 8, 8]


def test_the_last_16_rewards() -> None:
    """Newest first; the oldest group that is needed counts by its share."""
    curriculum = _made("knapsack")
    tasks: list[list[tuple[int, int]]] = [
        [],
        [(1, 4)],
        [(8, 8), (0, 8), (4, 8)],
        [(6, 8), (1, 2), (0, 10)],
        [(1, 64)],
        [(2, 2)] * 9 + [(0, 2)],
    ]
    won_N, known_N = last_rewards(_seen(curriculum, tasks).x_NE)
    assert known_N.tolist() == [0, 4, 16, 16, 16, 16]
    assert won_N.tolist() == [0, 1, 4, 4, 0.25, 14]


@pytest.mark.parametrize(
    ("p", "going", "spent"), [(0.05, 0.1855, 7.7098), (0.1, 0.3438, 10.876), (0.5, 0.875, 21.5)]
)
def test_speed(p: float, going: float, spent: float) -> None:
    p_N = np.array([p])
    assert continues(p_N, 4)[0] == pytest.approx(going, abs=5e-5)
    assert expected_rollouts(p_N, 4, 20)[0] == pytest.approx(spent, abs=5e-5)
    found = _allot(_made("speed"), empty(2, 1))
    assert found.num_rollouts_B.tolist() == [24, 24]
    assert found.screen_B.tolist() == [4, 4]
    assert found.train_B.all()


def test_everyone_gets_the_group_size_by_default() -> None:
    assert _made("group_size").budget is None
    found = GroupSizeBudget().allot(BudgetInput(empty(3, 1), 5))
    assert found.num_rollouts_B.tolist() == [5, 5, 5]
    assert GroupSizeBudget().largest(5) == GroupSizeBudget().price(5) == 5
    assert GroupSizeBudget().explain(empty(1, 1)) == "the run's group size"
    assert GroupSizeConfig().build(Context(subtasks=(), control_share=1.0)) == GroupSizeBudget()
    plain = resolve(CurriculumConfig(preset="uniform"), dataset_subtasks=COMPONENTS)
    assert plain.budget is None
    assert build(plain).budget is None


@pytest.mark.parametrize(
    ("name", "price", "largest"), [("cures", 8, 128), ("knapsack", 8, 128), ("speed", 24, 24)]
)
def test_what_a_batch_may_cost(name: str, price: int, largest: int) -> None:
    budget = _made(name).budget
    assert budget is not None
    assert (budget.price(8), budget.largest(8)) == (price, largest)


@pytest.mark.parametrize(
    ("name", "groups", "text"),
    [
        ("cures", [(2, 4)], "in proportion to sigma 0.5000 of success 0.5000"),
        ("speed", [(4, 8)], "4, then 20 with chance 0.8750: 21.50 expected"),
        ("knapsack", [], "0 of the 8 rewards known that it needs: the group size"),
        ("knapsack", [(8, 8)], "all of the last 8 rewards alike: 2, or what is left over"),
        ("knapsack", [(4, 16)], "p 0.2500 of the last 16 rewards: V(2) = 0.0527"),
    ],
)
def test_an_explanation(name: str, groups: list[tuple[int, int]], text: str) -> None:
    curriculum = _made(name)
    assert curriculum.budget is not None
    assert curriculum.budget.explain(_seen(curriculum, [groups])) == text


@settings(deadline=None, max_examples=150)
@given(
    shares=st.lists(st.floats(0, 1e3), min_size=1, max_size=40),
    low=st.integers(1, 6),
    width=st.integers(0, 60),
    at=st.floats(0, 1),
)
def test_apportioned_numbers_are_within_bounds_and_sum(
    shares: list[float], low: int, width: int, at: float
) -> None:
    high = low + width
    total = len(shares) * low + round(at * len(shares) * width)
    found = apportion(np.array(shares), total, low=low, high=high)
    assert found.sum() == total
    assert found.min() >= low
    assert found.max() <= high
    order = np.argsort(shares, kind="stable")  # a larger share never gets less, but by rounding
    assert (np.diff(found[order]) >= -1).all()


def test_apportioning_by_the_largest_remainders() -> None:
    assert apportion(np.array([1.0, 1.0, 1.0]), 8, low=2, high=9).tolist() == [3, 3, 2]
    assert apportion(np.array([9.0, 1.0, 0.0]), 12, low=2, high=9).tolist() == [8, 2, 2]
    assert apportion(np.array([9.0, 1.0, 0.0]), 24, low=2, high=9).tolist() == [9, 9, 6]
    assert apportion(np.array([1.0, 0.0, 0.0]), 20, low=2, high=8).tolist() == [8, 6, 6]
    with pytest.raises(ValueError, match="2 numbers from 3 to 4 cannot sum to 9"):
        apportion(np.ones(2), 9, low=3, high=4)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["cures", "knapsack"]),
    num=st.integers(1, 24),
    group_size=st.integers(2, 20),
    high=st.integers(20, 128),
)
def test_budgets_of_every_reachable_state_sum_to_the_total(
    seed: int, name: str, num: int, group_size: int, high: int
) -> None:
    chance = np.random.default_rng(seed)
    curriculum = _made(name, high=high)
    tasks: list[list[tuple[int, int]]] = []
    for _ in range(num):
        p = chance.choice([0.0, 1.0, chance.random()])
        sizes = chance.integers(2, 40, size=chance.integers(0, 5)).tolist()
        tasks.append([(int(chance.binomial(size, p)), size) for size in sizes])
    found = _allot(curriculum, _seen(curriculum, tasks), group_size=group_size)
    assert found.num_rollouts_B.sum() == num * group_size
    assert found.num_rollouts_B.min() >= 2
    assert found.num_rollouts_B.max() <= high


@pytest.mark.parametrize(
    ("name", "knobs", "group_size", "fault"),
    [
        ("magic", {}, 8, "/curriculum/budget/name: unknown budget 'magic'"),
        ("cures", {"low": 9, "high": 8}, 8, "/curriculum/budget/knobs/low: must not be above high"),
        ("cures", {"low": 1}, 8, "/curriculum/budget/knobs/low: Input should be greater"),
        ("cures", {"low": 9}, 8, "/curriculum/budget/knobs/low: .* run's group_size"),
        ("knapsack", {"high": 7}, 8, "/curriculum/budget/knobs/high: .* run's group_size"),
        ("knapsack", {"high": 129}, 8, "/limits/max_group_rollouts: .* 129 rollouts"),
        ("speed", {"more": 300}, 8, "/limits/max_group_rollouts: .* 304 rollouts"),
        ("speed", {}, 8, "/limits/max_group_bytes: a group of 24 rollouts.* needs 98304"),
    ],
)
def test_a_budget_that_does_not_fit_the_run_is_refused(
    name: str, knobs: dict[str, JsonValue], group_size: int, fault: str
) -> None:
    limits = RunLimits(max_group_bytes=1 << 16)
    with pytest.raises(ConfigFault, match=fault):
        check_fit(_resolved(name, **knobs), group_size=group_size, limits=limits, keeps_tokens=True)


def test_without_trajectories_bytes_do_not_matter() -> None:
    limits = RunLimits(max_group_bytes=1 << 10)
    for name in ("speed", "group_size"):
        check_fit(_resolved(name), group_size=8, limits=limits, keeps_tokens=False)
    plain = resolve(CurriculumConfig(preset="uniform"), dataset_subtasks=COMPONENTS)
    check_fit(plain, group_size=500, limits=limits, keeps_tokens=True)
