"""Ladders of the simulated learner: who climbs, what it costs, what is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from etude_proto.v1 import CurriculumConfig, Part
from etude_sampler.curriculum import build, resolve
from etude_sampler.curriculum.scaffolding import Scaffolding
from etude_sampler.simulation.climbing import Climber
from etude_sampler.simulation.plan import Plan
from etude_sampler.simulation.practice import Practice
from etude_sampler.simulation.rollout import roll_out
from etude_sampler.simulation.strategies import make_arm
from etude_sampler.simulation.world import beginner, chances, learner_noise, make_world
from etude_sampler.statistics import OutcomeArrays

G = 8
TASKS = np.arange(200)
WORLD = make_world(0)
CHANCES = chances(WORLD, beginner())
ONES = np.ones(4)


def scaffold(name: str, **knobs: object) -> Scaffolding:
    part = Part.model_validate({"name": name, "knobs": knobs})
    config = CurriculumConfig(preset="uniform", scaffold=part)
    found = build(resolve(config, dataset_subtasks=["format"])).scaffold
    assert found is not None
    return found


def groups(*, seed: int = 0) -> OutcomeArrays:
    noise = learner_noise(seed, 0)
    return roll_out(WORLD, CHANCES, TASKS, group_size=G, weights_K=ONES, noise=noise)


def climb(climber: Climber, bare: OutcomeArrays, *, version: int = 50) -> tuple[OutcomeArrays, int]:
    return climber.climb(
        *(WORLD, CHANCES, TASKS, bare),
        weights_K=ONES,
        version=version,
        noise=learner_noise(1, version),
    )


def test_a_hinted_success_takes_the_place_of_one_failure() -> None:
    bare = groups()
    failed = bare.success_NG.sum(axis=1) == 0
    assert 20 < failed.sum() < 200
    trained, spent = climb(Climber(scaffold("hints")), bare)
    won = trained.success_NG.sum(axis=1)
    assert set(won[failed].tolist()) == {0.0, 1.0}, "some are solved with hints, by one rollout"
    assert (trained.reward_NG[~failed] == bare.reward_NG[~failed]).all()
    changed = (trained.reward_NG != bare.reward_NG).sum(axis=1)
    assert (changed[failed] <= 1).all()
    assert failed.sum() <= spent <= 12 * failed.sum()
    assert (bare.success_NG[failed] == 0).all(), "the bare groups are as they were"


def test_a_prefix_replaces_the_group_and_costs_one() -> None:
    bare = groups()
    failed = bare.success_NG.sum(axis=1) == 0
    trained, spent = climb(Climber(scaffold("prefix")), bare)
    won = trained.success_NG.sum(axis=1)
    assert (won[failed] > 1).any()
    assert spent % G == 0
    assert G * failed.sum() <= spent <= 3 * G * failed.sum()


def test_the_next_climb_is_shorter() -> None:
    climber = Climber(scaffold("hints", back=0))
    first = [climb(climber, groups(), version=v)[1] for v in (50, 51, 52)]
    assert first[1] < first[0]


@pytest.mark.parametrize("name", ["reflect", "self_example", "noise_docs"])
def test_other_scaffolds_are_not_simulated(name: str) -> None:
    bare = groups()
    climber = Climber(scaffold(name))
    assert climb(climber, bare) == (bare, 0)
    assert climber.price(G, 50) == 0


def test_nobody_climbs_before_its_version_or_without_a_failure() -> None:
    bare = groups()
    climber = Climber(scaffold("hints"))
    assert climb(climber, bare, version=15) == (bare, 0)
    assert climb(Climber(None), bare) == (bare, 0)
    solved = OutcomeArrays(bare.q_NGK, bare.reward_NG, np.ones_like(bare.success_NG), bare.valid_NG)
    assert climb(climber, solved) == (solved, 0)


def test_what_a_climb_may_cost() -> None:
    assert Climber(scaffold("hints")).price(G, 16) == 12
    assert Climber(scaffold("prefix")).price(G, 20) == 3 * G
    assert Climber(scaffold("prefix")).price(G, 19) == 0


@pytest.mark.parametrize("name", ["scaf_grpo", "ghpo"])
def test_climbs_are_paid_from_the_same_budget(name: str) -> None:
    plan = Plan(budget=40 * 512)
    trace = Practice(make_arm(name), make_world(0), plan, seed=0).run()
    assert plan.budget - 64 < trace.rollouts_B[-1] <= plan.budget
    assert max(np.diff(trace.rollouts_B)) > 512, "some batch climbed"
    plain = Practice(make_arm("uniform"), make_world(0), plan, seed=0).run()
    assert trace.num_groups < plain.num_groups
