"""Rollouts and steps of the simulated learner: examples of algorithms.md 11, frequencies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etude_sampler.simulation.rollout import rewards, roll_out, scored
from etude_sampler.simulation.step import Signals, advance, join, readiness, signals
from etude_sampler.simulation.world import Skills, World, beginner, learner_noise, make_world
from etude_sampler.statistics import OutcomeArrays

ONES = np.ones(4)
ONE_GROUP = np.array([[[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]], dtype=float)


def _outcomes(q_NGK: np.ndarray[tuple[int, int, int], np.dtype[np.float64]]) -> OutcomeArrays:
    """Groups of tasks with one gold parameter."""
    num, size, _ = q_NGK.shape
    return OutcomeArrays(
        q_NGK=q_NGK,
        reward_NG=rewards(q_NGK, np.ones(num, np.int64), ONES),
        success_NG=np.all(q_NGK == 1.0, axis=2).astype(float),
        valid_NG=np.ones((num, size), dtype=bool),
    )


def test_one_group() -> None:
    outcomes = _outcomes(ONE_GROUP)
    assert outcomes.reward_NG[0] == pytest.approx([4, 2, 0, -2])
    distance = np.abs(outcomes.reward_NG[0] - 1) / (outcomes.reward_NG[0].std() + 1e-6)
    assert distance == pytest.approx([1.3416, 0.4472, 0.4472, 1.3416], abs=5e-5)
    taught = signals(np.array([0]), outcomes)
    assert taught.signal_N[0] == pytest.approx(0.8944, abs=5e-5)
    assert taught.credit_NK[0] == pytest.approx([0, 0.3170, 0.3660, 0.3170], abs=5e-5)


def test_a_step_of_128_such_groups() -> None:
    groups = signals(np.zeros(128, np.int64), _outcomes(np.repeat(ONE_GROUP, 128, axis=0)))
    assert len(groups) == 128
    after = advance(beginner(), groups, np.ones(6))
    assert after.theta_K == pytest.approx([-1, -0.9830, -0.9804, -0.9830], abs=5e-5)
    assert after.phi_F == pytest.approx([0.0894, 0, 0, 0, 0, 0], abs=5e-5)


def test_forgetting_alone() -> None:
    nothing = Signals(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros((0, 4)))
    after = advance(Skills(np.full(4, 0.5), np.ones(6)), nothing, np.ones(6))
    assert after.theta_K == pytest.approx([0.4970] * 4)
    assert after.phi_F == pytest.approx([0.998] * 6)


def test_an_unready_family_learns_less() -> None:
    groups = signals(np.array([1] * 128), _outcomes(np.repeat(ONE_GROUP, 128, axis=0)))
    after = advance(beginner(), groups, np.array([1, 0.25, 1, 1, 1, 1]))
    assert after.phi_F[1] == pytest.approx(0.25 * 0.08944, abs=5e-5)


def test_readiness_follows_the_family_before() -> None:
    world = World(
        family_N=np.array([0, 0, 1, 5]),
        num_params_N=np.zeros(4, np.int64),
        is_sound_N=np.ones(4, dtype=bool),
        difficulty_NK=np.zeros((4, 4)),
    )
    ready_F = readiness(world, np.array([0.1, 0.3, 0.8, 0.9]))
    assert ready_F.tolist() == pytest.approx([1, 0.4, 1, 0, 0, 0])


def test_groups_without_spread_teach_nothing() -> None:
    same = _outcomes(np.repeat(ONE_GROUP[:, 1:2], 4, axis=1))
    taught = signals(np.array([0]), same)
    assert taught.signal_N.tolist() == [0]
    assert taught.credit_NK.tolist() == [[0, 0, 0, 0]]
    both = join(taught, signals(np.array([3]), _outcomes(ONE_GROUP)))
    assert both.select(slice(1, None)).family_N.tolist() == [3]
    assert both.size_N.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("q", "num_params", "reward"),
    [
        ((1, 1, 1, 0.5), 2, 2.5),
        ((0, 0, 0, 0), 3, -3),
        ((1, np.nan, np.nan, np.nan), 0, 1),
        ((0, np.nan, np.nan, np.nan), 0, 0),
    ],
)
def test_rewards_are_toolrls(q: tuple[float, ...], num_params: int, reward: float) -> None:
    assert rewards(np.array([[q]]), np.array([num_params]), ONES)[0, 0] == pytest.approx(reward)


def test_rewards_follow_the_component_weights() -> None:
    """Section 3.7: a right call with 1 of 2 values, w the target of its example row."""
    weights = np.array([0.7555, 0.9746, 1.0692, 1.2008])
    reward = rewards(np.array([[[1, 1, 1, 0.5]]]), np.array([2]), weights)[0, 0]
    assert reward == pytest.approx(2.1347, abs=2e-4)


def test_rollouts_follow_the_chances() -> None:
    world = make_world(3)
    tasks = np.array([int(np.flatnonzero(world.num_params_N == num)[0]) for num in range(4)])
    chances_NK = np.tile(np.array([0.9, 0.8, 0.7, 0.6]), (2000, 1))
    found = roll_out(
        world, chances_NK, tasks, group_size=40_000, weights_K=ONES, noise=learner_noise(1, 1)
    )
    held = scored(np.cumprod(chances_NK[:1], axis=1))[0]
    assert held[0] == pytest.approx(0.9 * 0.98 + 0.01)
    assert found.q_NGK[1:].mean(axis=1) == pytest.approx(np.tile(held, (3, 1)), abs=0.01)
    assert np.isnan(found.q_NGK[0, :, 1:]).all()
    assert found.q_NGK[0, :, 0].mean() == pytest.approx(held[0], abs=0.01)
    assert found.success_NG[0] == pytest.approx(found.q_NGK[0, :, 0])
    assert set(np.unique(found.q_NGK[3, :, 3]).round(6)) == {0, 0.333333, 0.666667, 1}
    # Right in everything: the chain and all values, or (rarely) a flip that hides a fault.
    full = 0.9 * 0.8 * 0.7 * 0.6**2 * 0.98
    assert found.success_NG[2].mean() == pytest.approx(full, abs=0.015)
    chain = found.q_NGK[1:, :, :3]
    assert (chain[:, :, 2] <= chain[:, :, 1]).all()


def test_the_same_chance_gives_the_same_rollouts() -> None:
    world = make_world(0)
    tasks, chances_NK = np.arange(64), np.full((2000, 4), 0.5)
    one, two = (
        roll_out(world, chances_NK, tasks, group_size=8, weights_K=ONES, noise=learner_noise(9, 4))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.q_NGK, two.q_NGK)
    np.testing.assert_array_equal(replace(one).reward_NG, two.reward_NG)
