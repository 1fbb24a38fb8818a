"""Allocators over lanes: dump, sec, tscl, ladder; section 5's examples, and every state."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import (
    AllocatorState,
    ConfigFault,
    Curriculum,
    FoldInput,
    build,
    fold_state,
    resolve,
    start_state,
)
from etude_sampler.curriculum.allocators.dump import DumpConfig, bonus
from etude_sampler.curriculum.allocators.over_lanes import LaneGroups, numbers, softmax
from etude_sampler.curriculum.allocators.tscl import slope
from etude_sampler.leasing import allot_slots
from support.groups import fold_input

OVER_LANES = ("dump", "sec", "tscl", "ladder")


def _curriculum(preset: str, num_lanes: int = 3, **knobs: JsonValue) -> Curriculum:
    config: dict[str, JsonValue] = {"preset": preset}
    if knobs:
        config["allocator"] = {"name": preset, "knobs": knobs}
    lanes = [f"level_{k}" if preset == "ladder" else f"set {k}" for k in range(num_lanes)]
    return build(resolve(CurriculumConfig.model_validate(config), dataset_subtasks=lanes))


def _folded(groups: Sequence[tuple[int, int, int]], *, num_lanes: int, version: int) -> FoldInput:
    """Groups (lane, right, size) of one version."""
    mean_NK = np.full((len(groups), num_lanes), np.nan)
    for row, (lane, right, size) in enumerate(groups):
        mean_NK[row, lane] = right / size
    told = fold_input(mean_NK, num_acked_batches=version)
    return replace(
        told,
        num_valid_N=np.array([size for _, _, size in groups], dtype=np.int64),
        num_success_N=np.array([right for _, right, _ in groups], dtype=np.int64),
    )


def _after(curriculum: Curriculum, *versions: Sequence[tuple[int, int, int]]) -> AllocatorState:
    state = start_state(curriculum)
    for version, groups in enumerate(versions, start=1):
        told = _folded(groups, num_lanes=len(curriculum.subtasks), version=version)
        state = fold_state(curriculum, state, told)
        assert AllocatorState.from_json(json.loads(json.dumps(state.to_json()))).pace == state.pace
    return state


def _among_lanes(curriculum: Curriculum, state: AllocatorState) -> list[float]:
    """Shares of the component lanes among themselves."""
    shares = curriculum.allocator.shares(state)
    assert shares[0] == 0.05
    assert shares.sum() == pytest.approx(1.0)
    parts: list[float] = (shares[1:] / 0.95).tolist()
    return parts


@pytest.mark.parametrize(
    ("num_lane", "num_all", "value"), [(512, 4096, 0.1801), (64, 4096, 0.5059)]
)
def test_dump_bonus(num_lane: int, num_all: int, value: float) -> None:
    assert bonus(num_lane, num_all) == pytest.approx(value, abs=5e-5)


def test_dump_shares_of_the_example() -> None:
    """A group of |A| .5 fills one lane's window, one of .3 the other's."""
    config = DumpConfig()
    pace: JsonValue = {"n": 4096, "lanes": [[512.0, 300.0, 0.5], [64.0, 300.0, 0.3]]}
    assert config.parts(pace) == pytest.approx([0.2213, 0.7787], abs=5e-5)


def test_dump_counts_rollouts_and_forgets_old_ones() -> None:
    curriculum = _curriculum("dump", 2, window=10)
    versions = [[(0, 4, 8), (1, 8, 8)], [(0, 8, 8)]]
    state = _after(curriculum, *versions)
    pace = state.pace["allocator"]
    assert isinstance(pace, dict)
    assert pace["n"] == 24
    assert pace["lanes"] == [
        [pytest.approx(0.99 * 8 + 8), 8.0, 1.0, 8.0, 0.0],
        [pytest.approx(0.99 * 8), 8.0, 0.0],
    ]
    mean = (2 * 1.0 + 8 * 0.0) / 10
    bounds = [mean + bonus(15.92, 24), bonus(7.92, 24)]
    assert _among_lanes(curriculum, state) == pytest.approx(softmax(bounds, 0.1))
    later = _after(curriculum, *versions, [(0, 4, 8)])
    again = later.pace["allocator"]
    assert isinstance(again, dict)
    lanes = again["lanes"]
    assert isinstance(lanes, list)
    assert numbers(lanes[0])[1:] == [8.0, 0.0, 8.0, 1.0], "what no window reaches is dropped"


def test_sec_follows_the_example() -> None:
    """Mean |A| .8, .6 and .2: 2 of 10 right; 1 of 10; a mixed pair beside eight all wrong."""
    curriculum = _curriculum("sec", 2)
    rewards = ([(0, 2, 10)], [(0, 1, 10)], [(0, 1, 2), (0, 0, 8)])
    state = start_state(curriculum)
    for version, (groups, q) in enumerate(zip(rewards, (0.24, 0.348, 0.3036), strict=True), 1):
        state = fold_state(curriculum, state, _folded(groups, num_lanes=2, version=version))
        found = numbers(state.pace["allocator"])
        assert found[0] == pytest.approx(q, abs=5e-5)
        assert found[1] == 0.0, "a lane without groups keeps its Q"
    assert softmax([0.6, 0.2, 0.4], 0.5) == pytest.approx([0.4718, 0.2120, 0.3162], abs=5e-5)


def test_tscl_follows_the_example() -> None:
    curriculum = _curriculum("tscl")
    rates = (2, 3, 5, 4)
    state = start_state(curriculum)
    found = []
    for version, right in enumerate(rates, start=1):
        told = _folded([(1, right, 10)], num_lanes=3, version=version)
        state = fold_state(curriculum, state, told)
        lanes = state.pace["allocator"]
        assert isinstance(lanes, list)
        found.append(numbers(lanes[1])[0])
    assert found == pytest.approx([0.0, 0.01, 0.029, 0.0161], abs=5e-5)
    assert _among_lanes(curriculum, state) == pytest.approx([0.0333, 0.9333, 0.0333], abs=5e-5)
    windowed = _curriculum("tscl", form="window")
    lanes = _after(windowed, *[[(1, right, 10)] for right in rates]).pace["allocator"]
    assert isinstance(lanes, list)
    assert numbers(lanes[1])[0] == pytest.approx(0.08)


def test_tscl_lanes_that_tie_share_alike() -> None:
    curriculum = _curriculum("tscl", 4)
    assert _among_lanes(curriculum, start_state(curriculum)) == pytest.approx([0.25] * 4)


def test_the_slope_of_one_value_is_flat() -> None:
    assert slope([0.4]) == 0.0
    assert slope([1.0, 0.0]) == -1.0


def test_the_ladder_climbs_the_levels_that_there_are() -> None:
    curriculum = _curriculum("ladder", 4, stage_versions=2)
    state = start_state(curriculum)
    assert _among_lanes(curriculum, state) == pytest.approx(np.array([0.6, 0.15, 0.05, 0.0]) / 0.8)
    state = _after(curriculum, [], [])
    assert _among_lanes(curriculum, state) == pytest.approx(
        np.array([0.15, 0.6, 0.15, 0.05]) / 0.95
    )
    state = _after(curriculum, *[[]] * 50)
    assert _among_lanes(curriculum, state) == pytest.approx(
        np.array([0.0, 0.05, 0.15, 0.6]) / 0.8
    ), "the last stage stays"


@pytest.mark.parametrize("preset", ["dump", "sec", "tscl"])
@pytest.mark.parametrize("num_lanes", [0, 1])
def test_fewer_than_two_lanes_are_refused(preset: str, num_lanes: int) -> None:
    with pytest.raises(ConfigFault, match="needs two") as caught:
        _curriculum(preset, num_lanes)
    assert caught.value.pointer == "/curriculum/lanes_by"


def test_the_ladder_needs_levels() -> None:
    config = CurriculumConfig(preset="ladder", lanes_by="source")
    with pytest.raises(ConfigFault, match="must be 'level'") as caught:
        resolve(config, dataset_subtasks=["a", "b"])
    assert caught.value.pointer == "/curriculum/lanes_by"
    with pytest.raises(ConfigFault, match="needs two"):
        _curriculum("ladder", 1)


@pytest.mark.parametrize("preset", OVER_LANES)
def test_a_pace_of_another_shape_is_refused(preset: str) -> None:
    curriculum = _curriculum(preset)
    paces: list[JsonValue] = [{"n": 1}, "x", [["x"]]]
    for pace in paces:
        state = replace(start_state(curriculum), pace={"allocator": pace})
        with pytest.raises(ValueError, match="pace"):
            curriculum.allocator.shares(state)


@pytest.mark.parametrize("preset", OVER_LANES)
def test_a_run_that_another_allocator_began_starts_afresh(preset: str) -> None:
    curriculum = _curriculum(preset)
    began = replace(start_state(curriculum), pace={})
    assert (
        curriculum.allocator.shares(began) == curriculum.allocator.shares(start_state(curriculum))
    ).all()


def test_a_group_counts_by_its_rollouts() -> None:
    groups = LaneGroups(np.array([4, 12]), np.array([0.5, 0.0]))
    assert len(groups) == 2
    assert groups.abs_a_N.tolist() == [1.0, 0.0]
    assert groups.mean(groups.abs_a_N) == 0.25


@settings(max_examples=80, deadline=None)
@given(
    preset=st.sampled_from(OVER_LANES),
    num_lanes=st.integers(2, 5),
    seed=st.integers(0, 2**32),
    num_versions=st.integers(0, 30),
)
def test_shares_sum_to_one_and_slots_to_the_batch_in_every_state(
    preset: str, num_lanes: int, seed: int, num_versions: int
) -> None:
    chance = np.random.default_rng(seed)
    curriculum = _curriculum(preset, num_lanes)
    versions = []
    for _ in range(num_versions):
        groups = []
        for _ in range(int(chance.integers(0, 6))):
            size = int(chance.integers(2, 12))
            lane, right = int(chance.integers(0, num_lanes)), int(chance.integers(0, size + 1))
            groups.append((lane, right, size))
        versions.append(groups)
    state = _after(curriculum, *versions)
    shares = curriculum.allocator.shares(state)
    assert (shares >= 0.0).all()
    assert math.isclose(shares.sum(), 1.0)
    assert shares[0] == 0.05
    assert curriculum.allocator.component_weights(state).tolist() == [1.0] * num_lanes
    assert len(curriculum.allocator.view(state)) == num_lanes
    slots, credits_left = allot_slots(shares, np.zeros(num_lanes + 1), 64)
    assert slots.sum() == 64
    assert abs(credits_left.sum()) < 1e-9
