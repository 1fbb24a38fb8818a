"""Mastery, targets, steps and shares of `tdcl`, number for number."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import Allocator, AllocatorState, build, resolve
from etude_sampler.curriculum.allocators.tdcl import TdclConfig, target_weights
from etude_sampler.curriculum.mastery import (
    deficits,
    difference_estimate,
    initial_state,
    prerequisite_factors,
    standard_error,
)
from etude_sampler.curriculum.parts import Context
from etude_sampler.statistics import Floats
from support.groups import COMPONENTS, fold_input
from support.shared_data import Examples, examples

DSCL = "dscl_examples.json"
TAU = (0.98, 0.95, 0.95, 0.90)
CHAIN = {name: tuple(COMPONENTS[:k]) for k, name in enumerate(COMPONENTS)}
CONTEXT = Context(subtasks=COMPONENTS, control_share=0.1, prerequisites=CHAIN)
KNOBS = TdclConfig()


def _allocator(preset: str = "dscl", *, knobs: dict[str, JsonValue] | None = None) -> Allocator:
    config: dict[str, JsonValue] = {"preset": preset}
    if knobs:
        config["allocator"] = {"name": "tdcl", "knobs": knobs}
    validated = CurriculumConfig.model_validate(config)
    return build(resolve(validated, dataset_subtasks=COMPONENTS)).allocator


def _row(case: Examples, key: str) -> list[float]:
    values = case.numbers(key)
    return [values[name] for name in COMPONENTS]


def _known(mastery: list[float]) -> AllocatorState:
    """A state whose mastery is `mastery` and stays so: 1 task a component, at that level."""
    return replace(initial_state(4), M_K=tuple(mastery), S_K=tuple(mastery), n_K=(1,) * 4)


def _nothing() -> Floats:
    return np.empty((0, 4))


@pytest.mark.parametrize("place", range(4))
def test_gates_deficits_targets_and_first_steps(place: int) -> None:
    case = examples(DSCL).at("tdcl", place)
    mastery = _row(case, "M")
    factors = prerequisite_factors(mastery, TAU, context=CONTEXT)
    missing = deficits(mastery, TAU, factors)
    target = target_weights(missing, KNOBS)
    assert factors == pytest.approx(_row(case, "gate"), abs=1e-6)
    assert missing == pytest.approx(_row(case, "deficit"), abs=1e-6)
    assert target == pytest.approx(_row(case, "target_w"), abs=1e-6)
    allocator = _allocator()
    state = allocator.fold(_known(mastery), fold_input(_nothing()))
    assert list(state.w_K) == pytest.approx(_row(case, "one_step_from_ones"), abs=1e-6)
    for numbers, pre, z in zip(allocator.view(state), factors, missing, strict=True):
        assert (numbers.prerequisite_factor, numbers.deficit) == (pre, z)


def test_six_steps() -> None:
    document = examples(DSCL)
    allocator, state = _allocator(), _known(_row(document.at("tdcl", 0), "M"))
    for case in document.rows("tdcl_six_steps_middle"):
        state = allocator.fold(state, fold_input(_nothing()))
        expected = [case.number(name) for name in COMPONENTS]
        assert list(state.w_K) == pytest.approx(expected, abs=1e-6)
    shares = document.numbers("shares_middle_target")
    expected = [shares[name] for name in ("uniform", *COMPONENTS)]
    assert allocator.shares(state).tolist() == pytest.approx(expected, abs=1e-6)
    assert allocator.component_weights(state).tolist() == list(state.w_K)


def test_mastery_of_the_example_batch() -> None:
    """With nothing stored the estimate is the importance-weighted mean of the groups."""
    case = examples(DSCL).at("mastery")
    names = ["t1", "t2", "t4"]
    iota = case.numbers("iota")
    for k, name in enumerate(COMPONENTS):
        rows = [task for task in names if case.at("batch_means", task).has(name)]
        means = np.array([case.number("batch_means", task, name) for task in rows])
        weights = np.array([iota[task] for task in rows])
        assert difference_estimate(0.0, means, weights) == pytest.approx(
            case.number("M_hat", name), abs=1e-6
        )
        # A task stored at 0 for each row: the groups are all the drift, over a base of 0.
        mean_NK = np.full((len(rows), 4), np.nan)
        mean_NK[:, k] = means
        zeros = np.where(np.isnan(mean_NK), np.nan, 0.0)
        before = replace(initial_state(4), n_K=(len(rows),) * 4, M_K=tuple(_row(case, "M_before")))
        after = _allocator().fold(before, fold_input(mean_NK, zeros, iota_N=weights))
        assert after.M_K[k] == pytest.approx(case.number("M_after", name), abs=1e-6)


def test_first_visits_give_the_plain_mean() -> None:
    case = examples(DSCL).at("mastery")
    mean_NK = np.array(
        [
            [case.at("batch_means", task).numbers().get(name, np.nan) for name in COMPONENTS]
            for task in ("t1", "t2", "t4")
        ]
    )
    iota = np.array([case.number("iota", task) for task in ("t1", "t2", "t4")])
    allocator = _allocator()
    state = allocator.fold(allocator.initial(4), fold_input(mean_NK, new_NK=mean_NK, iota_N=iota))
    assert list(state.M_K) == pytest.approx(_row(case, "unweighted_mean"), abs=1e-6)
    assert state.n_K == (3, 2, 2, 2)
    assert list(state.S_K) == pytest.approx([2.75, 1.75, 1.75, 1.5])


def test_the_difference_estimator() -> None:
    """Base 0.5 from four stored tasks; one of them drifts by .4, one by 0; iota 3 to 1."""
    start = replace(initial_state(1), S_K=(2.0,), n_K=(4,), M_K=(0.5,))
    mean, prev = np.array([[0.8], [0.6]]), np.array([[0.4], [0.6]])
    config = CurriculumConfig(subtasks=["format"])
    allocator = build(resolve(config, dataset_subtasks=COMPONENTS)).allocator
    state = allocator.fold(start, fold_input(mean, prev, iota_N=np.array([3.0, 1.0])))
    assert state.M_K[0] == pytest.approx(0.9 * 0.5 + 0.1 * 0.8)
    assert state.S_K[0] == pytest.approx(2.0 + 0.2)
    assert state.n_K == (4,)
    assert state.se_K[0] == pytest.approx(math.sqrt(2 * (9 * 0.01 + 0.09)) / 4)


@pytest.mark.parametrize(
    ("knobs", "estimate"),
    [({}, 0.5 + 0.3), ({"iota": False}, 0.5 + 0.2), ({"mastery_source": "control"}, 0.5)],
)
def test_sources_of_mastery(knobs: dict[str, JsonValue], estimate: float) -> None:
    start = replace(initial_state(4), S_K=(2.0,) * 4, n_K=(4,) * 4)
    mean, prev = np.array([[0.8] * 4, [0.6] * 4]), np.array([[0.4] * 4, [0.6] * 4])
    folded = fold_input(mean, prev, iota_N=np.array([3.0, 1.0]), is_control_N=[False, True])
    state = _allocator(knobs=knobs).fold(start, folded)
    assert list(state.M_K) == pytest.approx([estimate] * 4)


def test_without_control_groups_mastery_stays_but_the_sum_moves() -> None:
    start = replace(initial_state(4), S_K=(2.0,) * 4, n_K=(4,) * 4, M_K=(0.3,) * 4)
    folded = fold_input(np.full((2, 4), 0.8), np.full((2, 4), 0.4))
    state = _allocator(knobs={"mastery_source": "control"}).fold(start, folded)
    assert state.M_K == (0.3,) * 4
    assert list(state.S_K) == pytest.approx([2.4] * 4)


def test_estimates_are_clipped_to_the_unit_interval() -> None:
    assert difference_estimate(0.9, np.array([0.4]), np.array([1.0])) == 1.0
    assert difference_estimate(0.1, np.array([-0.4]), np.array([1.0])) == 0.0


def test_one_group_has_no_standard_error() -> None:
    assert math.isnan(standard_error(np.array([0.2]), np.array([1.0])))
    assert standard_error(np.array([0.5, 0.5]), np.array([1.0, 5.0])) == 0.0
    assert standard_error(np.array([0.0, 1.0]), np.ones(2)) == pytest.approx(0.5)


@pytest.mark.parametrize(("num_acked", "moves"), [(0, False), (1, False), (2, True), (9, True)])
def test_weights_stay_one_until_two_batches_were_acked(num_acked: int, moves: bool) -> None:
    mean = np.array([[0.9, 0.1, 0.1, 0.1]])
    allocator = _allocator()
    state = allocator.fold(allocator.initial(4), fold_input(mean, num_acked_batches=num_acked))
    assert (state.w_K != (1.0,) * 4) == moves
    assert state.M_K == (0.9, 0.1, 0.1, 0.1)


def test_without_adaption_mastery_is_tracked_only() -> None:
    allocator = _allocator("dscl_rds_only")
    state = allocator.fold(allocator.initial(4), fold_input(np.full((3, 4), 0.2)))
    assert state.w_K == (1.0,) * 4
    assert list(state.M_K) == pytest.approx([0.2] * 4)
    assert allocator.shares(state).tolist() == pytest.approx([0.1] + [0.225] * 4)


def test_unknown_mastery_counts_as_none() -> None:
    allocator = _allocator()
    state = allocator.fold(allocator.initial(4), fold_input(_nothing()))
    assert state.w_K == pytest.approx((1.05, 0.983333, 0.983333, 0.983333), abs=1e-6)
    view = allocator.view(state)
    assert [numbers.mastery for numbers in view] == [None] * 4
    assert [numbers.standard_error for numbers in view] == [None] * 4
    assert [numbers.deficit for numbers in view] == [1.0, 0.0, 0.0, 0.0]
    assert [numbers.num_tasks_seen for numbers in view] == [0] * 4


def test_the_view_names_everything() -> None:
    allocator = _allocator()
    mean = np.array([[0.9, 0.5, 0.5, 0.1], [0.7, 0.5, 0.5, 0.3]])
    state = allocator.fold(allocator.initial(4), fold_input(mean))
    first, *_, last = allocator.view(state)
    assert (first.name, last.name) == ("format", "param_value")
    assert first.mastery == pytest.approx(0.8)
    assert first.standard_error == pytest.approx(0.1)
    assert (first.threshold, last.threshold) == (0.98, 0.90)
    assert first.component_weight == state.w_K[0]
    assert last.num_tasks_seen == 2


def test_a_curriculum_without_sub_tasks_has_one_lane() -> None:
    curriculum = build(resolve(CurriculumConfig(), dataset_subtasks=[]))
    allocator = curriculum.allocator
    state = allocator.fold(allocator.initial(0), fold_input(np.empty((3, 0))))
    assert curriculum.lanes == ("uniform",)
    assert allocator.shares(state).tolist() == [1.0]
    assert allocator.component_weights(state).tolist() == []
    assert allocator.view(state) == []


def test_prerequisites_switch_off() -> None:
    mastery = [0.2, 0.9, 0.9, 0.8]
    free = _allocator("dscl_no_prerequisites").view(_known(mastery))
    assert [numbers.prerequisite_factor for numbers in free] == [1.0] * 4
