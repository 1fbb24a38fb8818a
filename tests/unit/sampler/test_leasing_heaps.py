"""The lanes that replay drives, against the model of the lanes: the same draws, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_sampler.leasing import Lanes, exponentials, lane_key
from etude_sampler.leasing.heaps import HeapLanes, HeapRace
from etude_sampler.statistics import Floats, Ints

NAMES = ("uniform", "format", "tool_name")
NUM_TASKS = 25
SEED = 5
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["draw", "enter", "move", "reweigh", "share", "rebase"]),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=40,
)


def draws(tasks: Ints, entries: Ints) -> Floats:
    """[N, L] exponential numbers."""
    keys = [lane_key(name) for name in NAMES]
    return exponentials(SEED, ordinals_N=tasks, entries_N=entries, lane_keys_L=keys)


def weights(rng: np.random.Generator, num: int) -> Ints:
    """Lane `uniform` at weight 1, some of the others at 0."""
    made = rng.integers(1, 2_000_000, size=(num, len(NAMES))) * rng.integers(
        0, 2, size=(num, len(NAMES))
    )
    made[:, 0] = 1_000_000
    return made.astype(np.int64)


def start(rng: np.random.Generator) -> tuple[Lanes, HeapLanes]:
    """Both with everyone inside."""
    model = Lanes(NAMES, num_tasks=NUM_TASKS, seed=SEED)
    heaps = HeapLanes(len(NAMES), num_ordinals=NUM_TASKS)
    everyone, at = np.arange(NUM_TASKS), weights(rng, NUM_TASKS)
    heaps.enter(everyone, model.entries_N.copy(), at, draws(everyone, model.entries_N), load=True)
    model.enter(everyone, at)
    return model, heaps


@settings(max_examples=120, deadline=None, derandomize=True)
@given(STEPS, st.integers(0, 1000))
def test_every_step_is_the_models(steps: list[tuple[str, int]], seed: int) -> None:
    model, heaps = start(np.random.default_rng(seed))
    shares = np.array([0.2, 0.3, 0.5])
    for name, number in steps:
        rng = np.random.default_rng(number)
        if name == "share":
            shares = rng.dirichlet(np.ones(len(NAMES)))
        elif name == "draw":
            before = np.stack([race.weights_N for race in model.races], axis=1)
            num = min(int(rng.integers(0, 9)), model.races[0].num_waiting)
            want = model.draw(shares, num)
            found, found_weights = heaps.draw(shares, num)
            assert found.tasks_B.tolist() == want.tasks_B.tolist()
            assert found.lanes_B.tolist() == want.lanes_B.tolist()
            assert found.probability_B.tolist() == want.probability_B.tolist()
            assert found.num_waiting == want.num_waiting
            assert found_weights.tolist() == before[want.tasks_B].tolist()
        elif name == "enter":
            outside = np.flatnonzero(model.races[0].weights_N == 0)
            some = outside[rng.random(len(outside)) < 0.5]
            at, entries = weights(rng, len(some)), model.entries_N[some].copy()
            heaps.enter(some, entries, at, draws(some, entries))
            model.enter(some, at)
        elif name == "move":
            some = np.flatnonzero(rng.random(NUM_TASKS) < 0.2)
            at, entries = weights(rng, len(some)), model.entries_N[some].copy()
            at[rng.random(len(some)) < 0.4] = 0  # out of all lanes
            heaps.move(some, entries, at, draws(some, entries))
            model.move(some, at)
        elif name == "reweigh":
            waiting = np.flatnonzero(model.races[0].weights_N)
            some = waiting[rng.random(len(waiting)) < 0.5]
            new = weights(rng, len(some))
            heaps.reweigh(some, new)
            for lane, race in enumerate(model.races):
                race.reweigh(some, new[:, lane])
        else:
            lane = number % len(NAMES)
            heaps.races[lane].rebase()
            model.races[lane].scores_N -= model.races[lane].clock
            model.races[lane].clock = 0.0
        for mine, race in zip(heaps.races, model.races, strict=True):
            assert mine.scores_N.tolist() == race.scores_N.tolist()
            assert (mine.clock, mine.total) == (race.clock, race.total)
        assert heaps.credits_L.tolist() == model.credits_L.tolist()


@pytest.mark.parametrize("loaded", [True, False])
def test_equal_arrivals_go_by_name_as_in_a_sorted_set(loaded: bool) -> None:
    race = HeapRace(120)
    tasks = np.array([2, 10, 9, 100])
    step = race.load if loaded else race.enter
    step(tasks, np.full(4, 1_000_000), np.full(4, 0.5))
    assert race.first(4).tolist() == sorted(tasks.tolist(), key=str)


def test_a_task_that_is_pointed_to_twice_at_one_time_is_drawn_once() -> None:
    race = HeapRace(3)
    weights = np.full(2, 1_000_000)
    race.enter(np.array([0, 1]), weights, np.array([0.0, 0.5]))
    race.reweigh(np.array([0]), np.array([2_000_000]))  # at the clock, where no weight moves it
    assert race.scores_N[0] == race.clock == 0.0
    assert race.first(2).tolist() == [0, 1]


def test_waiting_is_to_stand_in_lane_uniform() -> None:
    _, heaps = start(np.random.default_rng(3))
    drawn, _ = heaps.draw(np.array([1.0, 0.0, 0.0]), 2)
    waiting = np.setdiff1d(np.arange(NUM_TASKS), drawn.tasks_B)
    assert heaps.waits(waiting)
    assert not heaps.waits(np.array([waiting[0], drawn.tasks_B[0]]))
