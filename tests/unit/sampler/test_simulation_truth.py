"""What the oracles know, checked against rollouts of the same learner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from etude_sampler.simulation.rollout import roll_out
from etude_sampler.simulation.step import advance, readiness, signals
from etude_sampler.simulation.truth import (
    best,
    expected_gain,
    expected_lesson,
    success_variance,
)
from etude_sampler.simulation.world import (
    Skills,
    beginner,
    chances,
    learner_noise,
    make_world,
    true_success,
)

LEARNED = Skills(np.array([0.5, 0.6, 0.2, -0.2]), np.array([2.0, 1.5, 1.0, 0.5, 0.0, 0.0]))


def test_the_best_batch_is_all_that_is_wanted() -> None:
    weights = best(np.array([0.1, 0.5, 0.5, 0.0]), 2)
    assert weights.tolist() == [1e-6, 1, 1, 1e-6]
    assert best(np.array([0.1, 0.2]), 64).tolist() == [1, 1]


def test_success_variance() -> None:
    world = make_world(0)
    success_N = true_success(world, chances(world, LEARNED))
    value_N = success_variance(world, LEARNED)
    assert value_N == pytest.approx(success_N - success_N**2)
    assert value_N[~world.is_sound_N].max() < 0.02


@pytest.mark.parametrize("skills", [beginner(), LEARNED])
def test_the_expected_lesson_is_that_of_many_rollouts(skills: Skills) -> None:
    """One group of 4,000 rollouts a task: its signal and credit, without the chance of a mix."""
    world = make_world(1, num_tasks=60)
    chances_NK = chances(world, skills)
    outcomes = roll_out(
        world,
        chances_NK,
        np.arange(60),
        group_size=4000,
        weights_K=np.ones(4),
        noise=learner_noise(1, 1),
    )
    seen = signals(world.family_N, outcomes)
    law = expected_lesson(world, chances_NK, group_size=100_000)
    sure = law.signal_N > 0.3
    assert sure.sum() > 40
    assert np.abs(seen.signal_N - law.signal_N)[sure].mean() < 0.03
    credited_NK = seen.signal_N[:, None] * seen.credit_NK
    assert np.abs(credited_NK - law.credited_NK)[sure].mean() < 0.03


def test_small_groups_are_mixed_less_often() -> None:
    world = make_world(1, num_tasks=60)
    chances_NK = chances(world, LEARNED)
    few, many = (expected_lesson(world, chances_NK, group_size=size) for size in (2, 16))
    assert (few.signal_N < many.signal_N).all()
    assert (few.signal_N >= 0).all()


def test_the_expected_gain_orders_tasks_as_steps_on_them_do() -> None:
    """A small step on 320 groups of each of 40 tasks, forgetting taken out."""
    world = make_world(2, num_tasks=300)
    chances_NK = chances(world, LEARNED)
    ready_F = readiness(world, true_success(world, chances_NK))
    gain_N = expected_gain(world, LEARNED)
    tasks = np.argsort(gain_N)[4::7][:40]

    def mean_success(skills: Skills) -> float:
        return float(true_success(world, chances(world, skills))[world.is_sound_N].mean())

    found = []
    for task in tasks:
        outcomes = roll_out(
            world,
            chances_NK,
            np.full(320, task),
            group_size=8,
            weights_K=np.ones(4),
            noise=learner_noise(0, 1),
        )
        groups = signals(world.family_N[np.full(320, task)], outcomes)
        groups = replace(groups, signal_N=groups.signal_N / 100)
        after = advance(LEARNED, groups, ready_F)
        idle = advance(LEARNED, groups.select(slice(0, 0)), ready_F)
        found.append(20 * (mean_success(after) - mean_success(idle)))
    assert spearmanr(found, gain_N[tasks]).statistic > 0.9
    # Scoring noise teaches, too, and is left out of the expectation.
    excess = float(np.mean(found) / np.mean(gain_N[tasks]))
    assert 1.0 < excess < 1.4


def test_no_task_is_expected_to_harm() -> None:
    """Also a mislabelled one: its success does not count, its lesson on the name does."""
    world = make_world(0)
    gain_N = expected_gain(world, beginner())
    assert np.isfinite(gain_N).all()
    assert (gain_N >= 0).all()
