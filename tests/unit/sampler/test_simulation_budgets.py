"""Budgets in the simulator: what was not made is not seen, not learned from and not paid for."""

from __future__ import annotations

import numpy as np
import pytest

from etude_sampler.curriculum.allotment import Allotment
from etude_sampler.curriculum.budgets.speed import expected_rollouts
from etude_sampler.simulation import Plan, Practice, Trace, make_arm, make_world
from etude_sampler.simulation.rollout import roll_out, spend
from etude_sampler.simulation.step import signals
from etude_sampler.simulation.world import beginner, chances, learner_noise, true_success
from etude_sampler.statistics import Ints, OutcomeArrays, summarise

NUM = 400


def _made(size: int) -> tuple[OutcomeArrays, Ints]:
    """Groups of tasks of every difficulty, and their families."""
    world = make_world(5)
    tasks = np.arange(NUM)
    made = roll_out(
        world,
        chances(world, beginner()),
        tasks,
        group_size=size,
        weights_K=np.ones(4),
        noise=learner_noise(2, 1),
    )
    return made, world.family_N[tasks]


def _run(strategy: str, *, num_batches: int = 20) -> Trace:
    return Practice(make_arm(strategy), make_world(0), Plan(budget=num_batches * 512), seed=0).run()


def test_rollouts_beyond_a_tasks_number_never_happened() -> None:
    made, family_N = _made(12)
    num_B = 2 + np.arange(NUM) % 11
    found, stopped_B = spend(made, Allotment.plain(num_B))
    assert not stopped_B.any()
    assert found.valid_NG.sum(axis=1).tolist() == num_B.tolist()
    taught, summary = signals(family_N, found), summarise(found)
    assert taught.size_N.tolist() == num_B.tolist()
    for size in (2, 7, 12):  # the same as groups that were never larger
        rows = np.flatnonzero(num_B == size)
        alone = OutcomeArrays(
            made.q_NGK[rows, :size],
            made.reward_NG[rows, :size],
            made.success_NG[rows, :size],
            made.valid_NG[rows, :size],
        )
        expected = signals(family_N[rows], alone)
        assert taught.signal_N[rows] == pytest.approx(expected.signal_N)
        assert taught.credit_NK[rows] == pytest.approx(expected.credit_NK)
        assert summary.num_success_N[rows].tolist() == alone.success_NG.sum(axis=1).tolist()


def test_a_screened_group_goes_on_only_where_its_first_rollouts_disagree() -> None:
    made, _ = _made(24)
    allotment = Allotment(np.full(NUM, 24), np.full(NUM, 4), np.ones(NUM, dtype=np.bool_))
    found, stopped_B = spend(made, allotment)
    first_B = made.success_NG[:, :4].sum(axis=1)
    assert stopped_B.tolist() == np.isin(first_B, [0, 4]).tolist()
    assert 0 < np.count_nonzero(stopped_B) < NUM
    spent_B = found.valid_NG.sum(axis=1)
    assert set(spent_B[stopped_B].tolist()) == {4}
    assert set(spent_B[~stopped_B].tolist()) == {24}
    assert np.isnan(found.reward_NG[stopped_B, 4:]).all()


def test_equal_groups_are_left_as_they_are() -> None:
    made, _ = _made(8)
    found, _ = spend(made, Allotment.plain(np.full(NUM, 8)))
    assert found is made


def test_speed_pays_for_its_screening_and_trains_on_nothing_that_was_stopped() -> None:
    trace = _run("speed")
    cost = np.diff(trace.rollouts_B)
    whole = cost[:-20]  # the last batches are cut to what is left
    assert ((cost - 4) % 4 == 0).all()
    assert 64 * 4 < whole.min() < whole.max() < 64 * 24
    world = make_world(0)
    p_N = true_success(world, chances(world, beginner()))
    expected = 64 * expected_rollouts(p_N, 4, 20).mean()
    assert whole[:8].mean() == pytest.approx(expected, rel=0.1)
    num_full = (trace.rollouts_B[-1] - 4 * trace.num_groups) / 20
    assert num_full == int(num_full)
    assert 24 * num_full / 512 - 2 < trace.steps_B[-1] <= 24 * num_full / 512


@pytest.mark.parametrize("strategy", ["cures", "knapsack"])
def test_divided_budgets_cost_what_equal_ones_do(strategy: str) -> None:
    trace = _run(strategy)
    assert set(np.diff(trace.rollouts_B).tolist()) == {512}


@pytest.mark.parametrize("strategy", ["cures", "knapsack", "speed"])
def test_a_budgeted_run_is_a_function_of_its_seed(strategy: str) -> None:
    one, two = (_run(strategy, num_batches=6) for _ in range(2))
    assert one.success_B.tolist() == two.success_B.tolist()
    assert one.rollouts_B.tolist() == two.rollouts_B.tolist()
