"""The gate of the last groups' best share by p (1 - p): its score, its bar, its pace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig, Part
from etude_sampler.curriculum import (
    Curriculum,
    FoldInput,
    at_pace,
    build,
    fold_state,
    resolve,
    start_state,
)
from etude_sampler.curriculum.gates.learnability import LearnabilityGate, learnability
from etude_sampler.statistics import summarise
from support.groups import COMPONENTS, binary_group, fold_input


def _curriculum(**knobs: JsonValue) -> Curriculum:
    gate = Part(name="learnability", knobs=knobs)
    config = CurriculumConfig(preset="learnability_fresh", gate=gate)
    return build(resolve(config, dataset_subtasks=COMPONENTS))


def _groups(successes: list[int], size: int = 8) -> FoldInput:
    """One version's groups of `size` rollouts."""
    base = fold_input(np.full((len(successes), 4), 0.3))
    told = {name: getattr(base, name) for name in FoldInput.__slots__}
    told |= {"num_valid_N": np.full(len(successes), size), "num_success_N": np.array(successes)}
    return FoldInput(**told)


def _kept(curriculum: Curriculum, pace: JsonValue, size: int = 8) -> list[int]:
    gate = at_pace(curriculum, {"gate": pace}).gate
    return [m for m in range(size + 1) if gate.admit(summarise(binary_group(size, m)))[0]]


def _after(curriculum: Curriculum, *versions: list[int]) -> JsonValue:
    state = start_state(curriculum)
    for successes in versions:
        state = fold_state(curriculum, state, _groups(successes))
    return state.pace["gate"]


def test_the_score() -> None:
    found = learnability(np.array([0, 2, 4, 8, 0]), np.array([8, 8, 8, 8, 0]))
    assert found.tolist() == [0.0, 0.1875, 0.25, 0.0, 0.0]


def test_at_first_every_mixed_group_is_kept() -> None:
    curriculum = _curriculum()
    assert _kept(curriculum, start_state(curriculum).pace["gate"]) == list(range(1, 8))


@pytest.mark.parametrize(
    ("successes", "kept"),
    [
        ([0, 1, 2, 4], [4]),
        ([0, 8, 1, 0], [1, 2, 3, 4, 5, 6, 7]),
        ([0, 8, 2, 6], [2, 3, 4, 5, 6]),
        ([4, 3, 2, 1, 0, 0, 8, 8], [3, 4, 5]),
        ([4, 3, 2, 1, 0], [3, 4, 5]),
        ([0, 0, 0, 8], [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_the_best_quarter_of_the_last_groups(successes: list[int], kept: list[int]) -> None:
    """A quarter of five is two; ties are kept; without a mixed group there is no bar."""
    curriculum = _curriculum()
    assert _kept(curriculum, _after(curriculum, successes)) == kept


def test_groups_of_other_sizes_meet_the_same_bar() -> None:
    """3 of 8 score .2344: of four rollouts 2 reach it, of sixteen 6 to 10."""
    curriculum = _curriculum()
    pace = _after(curriculum, [3, 0, 0, 0])
    assert _kept(curriculum, pace, 4) == [2]
    assert _kept(curriculum, pace, 16) == [6, 7, 8, 9, 10]


def test_old_groups_are_forgotten_and_the_share_is_a_knob() -> None:
    curriculum = _curriculum(memory=4)
    assert _kept(curriculum, _after(curriculum, [4, 4, 4, 4], [0, 1, 0, 2])) == [2, 3, 4, 5, 6]
    half = _curriculum(factor=2.0)
    assert _kept(half, _after(half, [4, 3, 2, 1])) == [3, 4, 5]
    assert _kept(_curriculum(factor=1.0), _after(half, [4, 3, 2, 1])) == list(range(1, 8))


@pytest.mark.parametrize("pace", [{"scores": []}, [0.25, "x"], None])
def test_a_pace_of_another_shape_is_refused(pace: JsonValue) -> None:
    with pytest.raises(ValueError, match="not the pace of gate learnability"):
        at_pace(_curriculum(), {"gate": pace})


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=60),
    st.floats(1.0, 16.0),
)
def test_at_least_the_share_is_kept_and_nothing_worse_than_what_is_left_out(
    rows: list[tuple[int, int]], factor: float
) -> None:
    won = np.array([min(pair) for pair in rows])
    scores = learnability(won, np.array([pair[1] for pair in rows]))
    gate = LearnabilityGate(factor, 60, tuple(scores.tolist()))
    kept = scores >= gate.bar
    assert np.count_nonzero(kept) >= len(rows) / factor
    assert np.count_nonzero(scores > gate.bar) < len(rows) / factor
