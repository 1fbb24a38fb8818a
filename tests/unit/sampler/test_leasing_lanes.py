"""Several lanes over the same tasks: one task once, spill to `uniform`, fresh draws on return."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_sampler.leasing import MICRO, Lanes

NAMES = ("uniform", "format", "tool_name")
SHARES = np.array([0.2, 0.4, 0.4])


def _lanes(weights_NL: list[list[int]], *, seed: int = 1) -> Lanes:
    """Lanes with all tasks waiting; weights in whole numbers."""
    lanes = Lanes(NAMES, num_tasks=len(weights_NL), seed=seed)
    lanes.enter(np.arange(len(weights_NL)), np.array(weights_NL) * MICRO)
    return lanes


def test_uniform_is_drawn_first_and_no_task_twice() -> None:
    lanes = _lanes([[1, 1, 1]] * 20)
    drawn = lanes.draw(SHARES, 10)
    assert drawn.lanes_B.tolist() == [0] * 2 + [1] * 4 + [2] * 4
    assert len(set(drawn.tasks_B.tolist())) == 10
    assert drawn.num_waiting == 20
    assert drawn.probability_B.tolist() == pytest.approx([1 / 20] * 10)
    assert [race.num_waiting for race in lanes.races] == [10] * 3


def test_an_empty_lane_spills_into_uniform() -> None:
    lanes = _lanes([[1, 1, 0]] * 20)
    drawn = lanes.draw(SHARES, 10)
    assert sorted(drawn.lanes_B.tolist()) == [0] * 6 + [1] * 4


def test_a_lane_that_runs_dry_spills_too_and_the_batch_may_fall_short() -> None:
    lanes = _lanes([[1, 1, 0], [1, 0, 1], [1, 0, 1]])
    drawn = lanes.draw(SHARES, 10)
    assert sorted(drawn.tasks_B.tolist()) == [0, 1, 2]
    nothing = lanes.draw(SHARES, 4)
    assert nothing.tasks_B.size == nothing.lanes_B.size == nothing.probability_B.size == 0


def test_without_uniform_a_component_lane_takes_the_rest() -> None:
    lanes = _lanes([[0, 1, 1], [0, 1, 1]])
    drawn = lanes.draw(np.array([1.0, 0.0, 0.0]), 2)
    assert drawn.lanes_B.tolist() == [1, 1]


def test_the_same_calls_draw_the_same_batches() -> None:
    def play() -> list[list[int]]:
        lanes = _lanes([[1, 3, 0], [1, 1, 2], [1, 5, 1], [1, 0, 4]] * 5, seed=2**62 + 1)
        batches = []
        for _ in range(12):
            tasks = lanes.draw(SHARES, 6).tasks_B
            lanes.enter(tasks, np.tile(np.array([[1, 2, 3]]) * MICRO, (len(tasks), 1)))
            batches.append(tasks.tolist())
        return batches

    assert play() == play()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=15),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(0, 2**63 - 1),
)
def test_conservation_and_no_starvation(
    weights: list[tuple[int, int]], batches: list[int], seed: int
) -> None:
    weights_NL = np.array([[1, *row] for row in weights]) * MICRO
    lanes = Lanes(NAMES, num_tasks=len(weights), seed=seed)
    lanes.enter(np.arange(len(weights)), weights_NL)
    num_entries = len(weights)
    for size in batches:
        drawn = lanes.draw(SHARES, size)
        assert len(drawn.tasks_B) == min(size, len(weights))
        assert len(set(drawn.tasks_B.tolist())) == len(drawn.tasks_B)
        for lane, race in enumerate(lanes.races):
            away = np.isin(np.arange(len(weights)), drawn.tasks_B)
            assert race.total == weights_NL[~away, lane].sum()
        assert np.all(drawn.probability_B > 0)
        lanes.enter(drawn.tasks_B, weights_NL[drawn.tasks_B])
        num_entries += len(drawn.tasks_B)
    assert lanes.entries_N.sum() == num_entries
    everybody = lanes.draw(SHARES, len(weights))
    assert sorted(everybody.tasks_B.tolist()) == list(range(len(weights)))
