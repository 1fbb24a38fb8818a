"""The race of one lane: worked numbers, its law, its clock, and re-weighing."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_sampler.leasing import MICRO, Race, arrival, exponentials, lane_key
from etude_sampler.leasing.race import REBASE_ABOVE
from etude_sampler.statistics import Floats, Ints

ABC = np.array([1, 2, 4]) * MICRO
ALL = np.arange(3)


def _draws(num_rows: int, *, num_tasks: int, seed: int) -> Floats:
    """Exponential draws [rows, tasks]: row r is every task's entry r."""
    entries = np.repeat(np.arange(num_rows), num_tasks)
    return exponentials(
        seed,
        ordinals_N=np.tile(np.arange(num_tasks), num_rows),
        entries_N=entries,
        lane_keys_L=[lane_key("format")],
    ).reshape(num_rows, num_tasks)


def _chi_square(counts: Floats, expected: Floats) -> float:
    return float(np.sum((counts - expected) ** 2 / expected))


def test_arrivals_and_clock() -> None:
    race = Race(3)
    race.enter(ALL, ABC, -np.log(np.array([0.5, 0.2, 0.9])))
    assert race.scores_N.tolist() == pytest.approx([0.6931, 0.8047, 0.0263], abs=5e-5)
    assert race.total == 7 * MICRO
    assert race.pop(2).tolist() == [2, 0]
    assert race.clock == pytest.approx(0.6931, abs=5e-5)
    assert race.num_waiting == 1
    assert race.total == 2 * MICRO
    assert race.pop(5).tolist() == [1]
    assert race.pop(1).tolist() == []
    assert race.clock == pytest.approx(0.8047, abs=5e-5)


def test_reweighing_keeps_the_draw() -> None:
    race = Race(1)
    race.clock = 10.0
    race.enter(np.array([0]), np.array([MICRO // 2]), np.array([3.0]))
    assert race.scores_N[0] == 16.0
    race.reweigh(np.array([0]), np.array([3 * MICRO // 2]))
    assert race.scores_N[0] == 12.0
    assert race.total == 3 * MICRO // 2


def test_reweighing_to_nothing_removes_and_absent_tasks_are_ignored() -> None:
    race = Race(3)
    race.enter(ALL[:2], ABC[:2], np.ones(2))
    race.reweigh(ALL, np.array([0, 2 * MICRO, 5 * MICRO]))
    assert race.scores_N.tolist() == [np.inf, 0.5, np.inf]
    assert race.total == 2 * MICRO


def test_weight_nothing_stays_outside() -> None:
    race = Race(2)
    race.enter(np.array([0, 1]), np.array([0, MICRO]), np.ones(2))
    assert race.num_waiting == 1
    assert race.pop(2).tolist() == [1]


def test_rebasing_keeps_order_and_gaps() -> None:
    race = Race(2)
    race.enter(np.array([0, 1]), np.array([MICRO, MICRO]), np.array([1.0, 2.0]))
    race.rebase()
    assert race.clock == 0.0
    race.clock = REBASE_ABOVE + 1
    race.scores_N += race.clock
    race.rebase()
    assert race.clock == 0.0
    assert race.scores_N.tolist() == [1.0, 2.0]


def test_first_pop_follows_the_weights() -> None:
    """1/7, 2/7, 4/7, and the chances of the first two: chi-square at the 0.1 % point."""
    num_races = 20_000
    scores = arrival(0.0, _draws(num_races, num_tasks=3, seed=5), ABC)
    orders = np.argsort(scores, axis=1)
    law = {
        order: Fraction(int(ABC[order[0]]), int(ABC.sum()))
        * Fraction(int(ABC[order[1]]), int(ABC.sum() - ABC[order[0]]))
        for order in itertools.permutations(range(3))
    }
    first = [float(sum(law[order] for order in law if order[0] == i)) for i in range(3)]
    within_two = [float(sum(law[order] for order in law if i in order[:2])) for i in range(3)]
    assert first == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert within_two == pytest.approx([0.3905, 0.7143, 0.8952], abs=5e-5)
    assert float(law[2, 1, 0]) == pytest.approx(0.3810, abs=5e-5)
    counts = np.array([np.sum((orders == order).all(axis=1)) for order in law], dtype=float)
    expected = np.array([float(chance) for chance in law.values()]) * num_races
    assert _chi_square(counts, expected) < 20.5  # 5 degrees


def _pop_counts(weights: Ints, *, num_pops: int, seed: int) -> Floats:
    """How often each task of a lane is popped if it re-enters at once."""
    race, num = Race(len(weights)), len(weights)
    draws = _draws(num_pops + 1, num_tasks=num, seed=seed)
    race.enter(np.arange(num), weights, draws[0])
    counts, entry = np.zeros(num), np.ones(num, np.int64)
    for _ in range(num_pops):
        task = race.pop(1)
        race.enter(task, weights[task], draws[entry[task], task])
        entry[task] += 1
        counts[task] += 1
    return counts


def test_the_virtual_clock_keeps_the_law_over_many_pops() -> None:
    """Five tasks, weights .1 to 4, re-entering at once: every pop follows w / W (L2, L3)."""
    weights = (np.array([0.1, 0.5, 1.0, 2.0, 4.0]) * MICRO).astype(np.int64)
    num_pops = 30_000
    counts = _pop_counts(weights, num_pops=num_pops, seed=3)
    expected = weights / weights.sum() * num_pops
    assert _chi_square(counts, expected) < 18.5  # 4 degrees, 0.1 %


def test_the_law_holds_across_leases() -> None:
    """Two popped and away: the third is drawn by weight among those waiting (memorylessness)."""
    weights = np.array([1, 2, 3, 4, 6]) * MICRO
    num_races = 6_000
    draws = _draws(num_races, num_tasks=5, seed=8)
    counts: dict[tuple[int, ...], Floats] = {}
    for row in draws:
        race = Race(5)
        race.enter(np.arange(5), weights, row)
        away = tuple(sorted(race.pop(2).tolist()))
        counts.setdefault(away, np.zeros(5))[race.pop(1)] += 1
    statistic, degrees = 0.0, 0
    for away, seen in counts.items():
        open_weights = weights.astype(float)
        open_weights[list(away)] = 0.0
        expected = open_weights / open_weights.sum() * seen.sum()
        inside = expected > 5
        if inside.sum() == 3:
            statistic += _chi_square(seen[inside], expected[inside])
            degrees += 2
    assert degrees >= 14
    assert statistic < degrees + 4.5 * np.sqrt(2 * degrees)


def test_reweighing_leaves_the_law_of_the_new_weights() -> None:
    """Drawn under old weights, re-weighed after a pop, the next pop follows the new ones (L4)."""
    old, new = np.array([4, 1, 2, 1]) * MICRO, np.array([1, 3, 2, 2]) * MICRO
    num_races = 8_000
    draws = _draws(num_races, num_tasks=4, seed=13)
    counts = np.zeros((4, 4))
    for row in draws:
        race = Race(4)
        race.enter(np.arange(4), old, row)
        gone = int(race.pop(1)[0])
        race.reweigh(np.arange(4), new)
        counts[gone, race.pop(1)] += 1
    statistic = 0.0
    for gone in range(4):
        waiting = np.arange(4) != gone
        expected = new[waiting] / new[waiting].sum() * counts[gone].sum()
        statistic += _chi_square(counts[gone, waiting], expected)
    assert statistic < 26.1  # 4 x 2 degrees, 0.1 %


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 5 * MICRO), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 2**63 - 1),
)
def test_pops_are_in_order_and_totals_exact(weights: list[int], k: int, seed: int) -> None:
    race, all_weights = Race(len(weights)), np.array(weights)
    draws = _draws(1, num_tasks=len(weights), seed=seed)[0]
    race.enter(np.arange(len(weights)), all_weights, draws)
    scores = race.scores_N.copy()
    popped = race.pop(k)
    assert len(popped) == min(k, len(weights))
    assert np.all(np.diff(scores[popped]) >= 0)
    assert race.total == sum(weights) - int(all_weights[popped].sum())
    assert race.clock == (scores[popped].max() if len(popped) else 0.0)
    assert np.all(race.scores_N >= race.clock)
