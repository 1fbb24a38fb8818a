"""Hard sampling of the simulated learner: guided chances, bare statistics, probes, rounds."""

from __future__ import annotations

import numpy as np
import pytest

from etude_sampler.curriculum.hard import HardSampling
from etude_sampler.leasing import Drawn, Lanes
from etude_sampler.simulation import Plan, Practice, make_arm, make_world
from etude_sampler.simulation.guidance import EASIER, Guidance, bare_rows, helped
from etude_sampler.statistics import empty, summarise
from support.groups import outcomes

LANES = ("uniform", "format", "hard", "probe")


def sampling() -> HardSampling:
    """Hard sampling of an arm."""
    hard = make_arm("toolexpander").curriculum.hard
    assert hard is not None
    return hard


def test_a_demonstration_takes_eight_tenths_of_a_logit_off() -> None:
    chances = np.array([[0.5, 0.2], [0.5, 0.0], [1.0, 0.9]])
    found = helped(chances, np.array([0, 1, 2]), np.array([1, 2, 0]))
    assert found[0] == pytest.approx([1 / (1 + np.exp(-EASIER)), 0.35748], abs=1e-5)
    assert found[1] == pytest.approx([1 / (1 + np.exp(-2 * EASIER)), 0.0])
    assert found[2].tolist() == [1.0, 0.9]
    assert chances[0, 0] == 0.5


def test_demonstrations_are_of_other_tasks_solved_in_an_earlier_version() -> None:
    guidance, hard = Guidance(LANES, 5), sampling()
    drawn = Drawn(np.array([3, 4, 1]), np.array([2, 3, 0]), np.zeros(3), 5)
    weights = np.zeros((3, 4), np.int64)
    weights[0, 2], weights[1, 3], weights[2] = 1_000_002, 1_000_006, 1_000_000
    stats = empty(5, 1, make_arm("toolexpander").curriculum.shape.fresh)
    summary = summarise(outcomes([{"format": [0.0, 1.0]}] * 3))

    def levels() -> list[int]:
        served = guidance.serve(drawn, weights, hard, group_size=8)
        assert served.allotment.num_rollouts_B.tolist() == [8, 6, 8]
        assert served.allotment.train_B.tolist() == [True, False, True]
        return [int(level) for level in served.level_B]

    assert levels() == [0, 0, 0]
    served = guidance.serve(drawn, weights, hard, group_size=8)
    guidance.visit(stats, served, np.array([0, 1, 3]), summary=summary, hard=hard)
    assert levels() == [0, 0, 0], "not before the next version"
    lanes = Lanes(LANES, num_tasks=5, seed=1)
    everyone = np.full((5, 4), 0)
    everyone[:, 0] = 1_000_000
    lanes.enter(np.arange(5), everyone)
    guidance.turn(lanes, everyone)
    assert levels() == [2, 0, 0]


def test_a_turn_moves_only_those_whose_lanes_change() -> None:
    lanes, guidance = Lanes(LANES, num_tasks=4, seed=1), Guidance(LANES, 4)
    weights = np.zeros((4, 4), np.int64)
    weights[:, :2] = 1_000_000
    lanes.enter(np.arange(4), weights)
    after = weights.copy()
    after[1], after[2, 2], after[3, 1] = 0, 1_000_002, 5
    guidance.turn(lanes, after)
    assert lanes.entries_N.tolist() == [1, 2, 2, 1], "a weight alone is no other lane"
    assert [race.weights_N[1] for race in lanes.races] == [0, 0, 0, 0]
    assert lanes.races[2].weights_N.tolist() == [0, 0, 1_000_002, 0]


def test_guided_groups_are_no_statistics() -> None:
    drawn = Drawn(np.array([3, 4]), np.array([2, 0]), np.array([0.1, 0.2]), 5)
    summary = summarise(outcomes([{"format": [1.0, 1.0]}, {"format": [0.0, 0.0]}]))
    part, told = bare_rows(drawn, summary, np.array([2, 0]))
    assert part.tasks_B.tolist() == [4]
    assert told.num_success_N.tolist() == [0]


def test_hard_tasks_are_found_guided_and_given_back() -> None:
    """Groups of 10 for two passes over the tasks: some are hard, few are parked, all are there."""
    plan = Plan(budget=70 * 640, group_size=10)
    practice = Practice(make_arm("toolexpander", group_size=10), make_world(0), plan, seed=0)
    trace = practice.run()
    hard = practice._hard().now
    assert hard.round >= 2
    assert 0 < hard.num_hard < 2000
    assert hard.num_parked <= 100
    waiting = np.count_nonzero(practice._lanes.races[0].weights_N)
    assert waiting + hard.num_parked == 2000
    assert np.count_nonzero(practice._lanes.races[-2].weights_N) == hard.num_hard
    assert trace.success_B[-1] > trace.success_B[0]
