"""Allocator `joint`: several lanes that act as one race of all tasks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import Curriculum, build, micro, resolve
from etude_sampler.leasing import Lanes
from support.groups import COMPONENTS, fold_input


def _curriculum(subtasks: tuple[str, ...] = COMPONENTS, share: float = 0.05) -> Curriculum:
    config = CurriculumConfig(preset="mixed_group", control_share=share)
    return build(resolve(config, dataset_subtasks=subtasks))


def test_slots_go_to_the_head_of_the_chain() -> None:
    allocator = _curriculum().allocator
    state = allocator.initial(4)
    assert allocator.shares(state).tolist() == pytest.approx([0.05, 0.95, 0, 0, 0])
    state = allocator.fold(state, fold_input(np.full((3, 4), 0.5)))
    assert allocator.shares(state).tolist() == pytest.approx([0.05, 0.95, 0, 0, 0])
    assert allocator.component_weights(state).tolist() == [1.0] * 4
    assert [one.mastery for one in allocator.view(state)] == [0.5] * 4


def test_disjoint_sub_tasks_share_by_the_tasks_seen() -> None:
    allocator = _curriculum(("maths", "weather")).allocator
    state = allocator.initial(2)
    assert allocator.shares(state).tolist() == pytest.approx([0.05, 0.475, 0.475])
    groups = np.array([[0.5, np.nan]] * 5 + [[np.nan, 0.5]])
    state = allocator.fold(state, fold_input(groups))
    assert allocator.shares(state).tolist() == pytest.approx([0.05, 0.95 * 6 / 8, 0.95 * 2 / 8])


def test_without_sub_tasks_there_is_only_the_uniform_lane() -> None:
    allocator = _curriculum(()).allocator
    assert allocator.shares(allocator.initial(0)).tolist() == [1.0]


@pytest.mark.no_cover
def test_the_next_task_is_drawn_by_its_weight_alone() -> None:
    """Six tasks, half without calls: inclusion in a slot follows w, not the number of lanes."""
    curriculum = _curriculum(share=0.01)
    active_NK = np.array([[True] * 4] * 3 + [[True, False, False, False]] * 3)
    weights_N = np.array([1.0, 2.0, 4.0, 1.0, 2.0, 4.0])
    weights_NL = micro(np.concatenate([np.ones((6, 1)), active_NK * weights_N[:, None]], axis=1))
    shares_L = curriculum.allocator.shares(curriculum.allocator.initial(4))
    lanes = Lanes(curriculum.lanes, num_tasks=6, seed=11)
    lanes.enter(np.arange(6), weights_NL)
    drawn = np.zeros(6)
    for _ in range(4000):
        task = lanes.draw(shares_L, 1).tasks_B
        drawn[task] += 1
        lanes.enter(task, weights_NL[task])
    expected = 0.99 * weights_N / weights_N.sum() + 0.01 / 6
    assert scipy_stats.chisquare(drawn, 4000 * expected).pvalue > 0.01
