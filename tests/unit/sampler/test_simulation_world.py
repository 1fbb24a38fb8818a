"""The simulated world: its shape, the examples of algorithms.md 11, streams of chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etude_sampler.simulation.world import (
    FAMILY_PROBABILITIES,
    Skills,
    World,
    beginner,
    chances,
    exponents,
    learner_noise,
    make_world,
    mean_by_family,
    true_success,
)


def plain_world(num_params: int = 2) -> World:
    """One task of family 0 with offset and own difficulty 0."""
    return World(
        family_N=np.array([0]),
        num_params_N=np.array([num_params]),
        is_sound_N=np.array([True]),
        difficulty_NK=np.array([[-2.5, -0.6, 0.2, 1.0]]),
    )


@pytest.mark.parametrize(
    ("theta", "phi", "expected", "success"),
    [
        (-1.0, 0.0, [0.8176, 0.4013, 0.2315, 0.1192], 0.001079),
        (0.5, 1.0, [0.9820, 0.8909, 0.7858, 0.6225], 0.26638),
    ],
)
def test_chances_and_success(
    theta: float, phi: float, expected: list[float], success: float
) -> None:
    world = plain_world()
    skills = Skills(np.full(4, theta), np.array([phi, 0, 0, 0, 0, 0]))
    chances_NK = chances(world, skills)
    assert chances_NK[0] == pytest.approx(expected, abs=5e-5)
    assert true_success(world, chances_NK)[0] == pytest.approx(success, abs=5e-6)


def test_a_task_without_calls_needs_the_format_only() -> None:
    world = plain_world(num_params=0)
    chances_NK = chances(world, beginner())
    assert true_success(world, chances_NK)[0] == pytest.approx(chances_NK[0, 0])
    assert world.active_NK.tolist() == [[True, False, False, False]]
    assert exponents(world).tolist() == [[1, 0, 0, 0]]
    assert exponents(plain_world(3)).tolist() == [[1, 1, 1, 3]]


def test_the_shape_of_a_large_world() -> None:
    world = make_world(5, num_tasks=200_000)
    share_F = np.bincount(world.family_N) / 200_000
    assert share_F == pytest.approx(FAMILY_PROBABILITIES, abs=0.005)
    assert np.mean(~world.is_call_N) == pytest.approx(0.12, abs=0.005)
    assert np.mean(~world.is_sound_N[world.is_call_N]) == pytest.approx(0.03, abs=0.003)
    assert world.is_sound_N[~world.is_call_N].all()
    params = np.bincount(world.num_params_N[world.is_call_N])[1:]
    assert params / params.sum() == pytest.approx([1 / 3] * 3, abs=0.01)
    own_NK = world.difficulty_NK - np.array([-2.5, -0.6, 0.2, 1.0])
    own_NK -= np.array([-1, -0.6, -0.2, 0.2, 0.6, 1])[world.family_N][:, None]
    own_NK[~world.is_sound_N, 3] -= 8.0
    covariance = np.cov(own_NK.T)
    assert np.diag(covariance) == pytest.approx([2 * 0.64] * 4, abs=0.03)
    assert covariance[0, 3] == pytest.approx(0.64, abs=0.03)
    assert own_NK.mean(axis=0) == pytest.approx([0.0] * 4, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_success_before_training(seed: int) -> None:
    world = make_world(seed)
    success_N = true_success(world, chances(world, beginner()))
    assert len(success_N) == 2000
    assert 0.115 <= success_N[world.is_sound_N].mean() <= 0.145


def test_a_world_is_a_function_of_its_seed() -> None:
    first, again, other = make_world(1), make_world(1), make_world(2)
    assert (first.difficulty_NK == again.difficulty_NK).all()
    assert (first.difficulty_NK != other.difficulty_NK).any()


def test_noise_is_a_function_of_seed_and_batch() -> None:
    numbers = {
        (seed, batch): learner_noise(seed, batch).random() for seed in (0, 1) for batch in (1, 2)
    }
    assert len(set(numbers.values())) == 4
    assert learner_noise(1, 2).random() == numbers[(1, 2)]


def test_the_mean_of_a_family_without_tasks_is_nothing() -> None:
    world = replace(plain_world(), family_N=np.array([2]))
    assert mean_by_family(world, np.array([0.7])).tolist() == [0, 0, 0.7, 0, 0, 0]
