"""Lanes of the simulated tasks: families, levels from offline rollouts, and how they are scored."""

from __future__ import annotations

import numpy as np
import pytest

from etude_sampler.simulation import Plan, Practice, make_arm, make_world
from etude_sampler.simulation.rollout import roll_out
from etude_sampler.simulation.standing import lanes_of, make_standing
from etude_sampler.simulation.strategies import SUBTASKS
from etude_sampler.simulation.traits import FAMILIES
from etude_sampler.simulation.world import beginner, chances, learner_noise
from etude_sampler.statistics import summarise

WORLD = make_world(3, num_tasks=300)


def test_every_task_stands_in_the_lane_of_its_family() -> None:
    names = lanes_of("source", SUBTASKS, WORLD, seed=3)
    standing = make_standing(WORLD, "source", names, seed=3)
    assert names == FAMILIES
    assert (standing.active_NK.argmax(axis=1) == WORLD.family_N).all()
    assert (standing.active_NK.sum(axis=1) == 1).all()
    assert (standing.screening, standing.num_offline) == (None, 0)


def test_levels_are_those_of_eight_offline_rollouts() -> None:
    names = lanes_of("level", SUBTASKS, WORLD, seed=3)
    standing = make_standing(WORLD, "level", names, seed=3)
    assert standing.num_offline == 8 * 300
    assert standing.screening is not None
    wrong_N = 8 - standing.screening.success_NG.sum(axis=1).astype(int)
    found = [names[k] for k in standing.active_NK.argmax(axis=1)]
    assert found == [f"level_{wrong}" for wrong in wrong_N]
    assert set(found) == set(names), "levels without a task are no lanes"
    assert names == tuple(sorted(names))
    assert len(lanes_of("level", SUBTASKS, None, seed=0)) == 9
    again = make_standing(WORLD, "level", names, seed=4)
    assert (again.active_NK != standing.active_NK).any(), "the rollouts are the seed's"


def test_lanes_of_families_are_scored_by_success() -> None:
    standing = make_standing(WORLD, "source", FAMILIES, seed=0)
    tasks = np.arange(40)
    outcomes = roll_out(
        WORLD,
        chances(WORLD, beginner()),
        tasks,
        group_size=8,
        weights_K=np.ones(4),
        noise=learner_noise(0, 1),
    )
    summary = summarise(standing.scored(outcomes, tasks))
    assert summary.mean_NK.shape == (40, len(FAMILIES))
    own_N = summary.mean_NK[tasks, WORLD.family_N[tasks]]
    assert (own_N == summary.num_success_N / 8).all()
    assert np.count_nonzero(~np.isnan(summary.mean_NK)) == 40
    plain = make_standing(WORLD, "subtasks", SUBTASKS, seed=0)
    assert plain.scored(outcomes, tasks) is outcomes


def test_a_budget_below_the_offline_rollouts_is_refused() -> None:
    world = make_world(0, num_tasks=100)
    arm = make_arm("ladder", world=world)
    with pytest.raises(ValueError, match="ladder spends 800 rollouts"):
        Practice(arm, world, Plan(budget=512), seed=0)
    trace = Practice(arm, world, Plan(budget=1024), seed=0).run()
    assert trace.rollouts_B.tolist() == [0, 800, 1024]
    assert np.isnan(trace.mastery_K).all(), "mastery of levels is not that of components"


def test_sources_get_slots_by_what_they_teach() -> None:
    """The families' lanes, not those of components, are what `sec` shares slots out between."""
    arm = make_arm("sec")
    assert arm.curriculum.lanes == ("uniform", *FAMILIES)
    trace = Practice(arm, make_world(1), Plan(budget=6 * 512), seed=1).run()
    assert trace.num_groups == 6 * 64
