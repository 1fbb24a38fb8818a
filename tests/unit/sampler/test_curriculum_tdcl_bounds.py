"""What `tdcl` guarantees for any history: bounds, limits, sums, and a state that survives JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import Allocator, AllocatorState, build, resolve
from etude_sampler.curriculum.allocators.tdcl import TdclConfig, step_towards, target_weights
from etude_sampler.curriculum.mastery import (
    deficits,
    initial_state,
    prerequisite_factors,
)
from etude_sampler.curriculum.parts import Context
from support.groups import COMPONENTS, fold_input

TAU = (0.98, 0.95, 0.95, 0.90)
CHAIN = {name: tuple(COMPONENTS[:k]) for k, name in enumerate(COMPONENTS)}
CONTEXT = Context(subtasks=COMPONENTS, control_share=0.1, prerequisites=CHAIN)
KNOBS = TdclConfig()


def _allocator() -> Allocator:
    return build(resolve(CurriculumConfig(), dataset_subtasks=COMPONENTS)).allocator


def _known(mastery: list[float]) -> AllocatorState:
    """A state whose mastery is `mastery` and stays so: 1 task a component, at that level."""
    return replace(initial_state(4), M_K=tuple(mastery), S_K=tuple(mastery), n_K=(1,) * 4)


mastery_K = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@settings(deadline=None)
@given(mastery_K)
def test_targets_of_the_chain_stay_in_their_range(mastery: list[float]) -> None:
    missing = deficits(mastery, TAU, prerequisite_factors(mastery, TAU, context=CONTEXT))
    assert math.fsum(missing) <= 1.0 + 1e-12  # the deficits of a chain telescope
    target = target_weights(missing, KNOBS)
    assert math.fsum(target) == pytest.approx(4.0)
    assert min(target) >= 0.625 - 1e-9
    assert max(target) <= 2.0646
    state = replace(_known(mastery), w_K=tuple(target))
    assert _allocator().shares(state)[1:].min() >= 0.14


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=32),
    st.floats(0, 20),
    st.floats(0.01, 1),
    st.floats(1, 20),
)
def test_targets_of_any_deficits_stay_in_the_rescaled_range(
    missing: list[float], lam: float, w_min: float, w_max: float
) -> None:
    """Before rescaling [w_min, w_max]; after it the looser bounds that the docstring states."""
    num = len(missing)
    target = target_weights(missing, TdclConfig(lam=lam, w_min=w_min, w_max=w_max))
    assert math.fsum(target) == pytest.approx(num)
    assert min(target) >= num * w_min / (w_min + (num - 1) * w_max) - 1e-9
    assert max(target) <= num * w_max / (w_max + (num - 1) * w_min) + 1e-9


@settings(deadline=None)
@given(st.data())
def test_a_step_keeps_the_sum_and_its_limit(data: st.DataObject) -> None:
    num = data.draw(st.integers(1, 12))
    vectors = st.lists(st.floats(0.1, 3), min_size=num, max_size=num)
    weights, target = (
        [value * num / sum(vector) for value in vector]
        for vector in (data.draw(vectors), data.draw(vectors))
    )
    for _ in range(5):
        moved = step_towards(weights, target, step=0.05)
        assert max(abs(a - b) for a, b in zip(moved, weights, strict=True)) <= 0.05 + 1e-12
        assert math.fsum(moved) == pytest.approx(num)
        weights = moved


@pytest.mark.no_cover
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25))
def test_weights_over_many_versions_and_the_round_trip(seed: int, num_versions: int) -> None:
    chance = np.random.default_rng(seed)
    allocator = _allocator()
    state, stored = allocator.initial(4), np.full((12, 4), np.nan)
    for version in range(num_versions):
        rows = chance.choice(12, size=int(chance.integers(0, 6)), replace=False)
        mean = chance.random((len(rows), 4))
        mean[chance.random(len(rows)) < 0.2, 1:] = np.nan
        prev = stored[rows]
        new = np.where(np.isnan(prev), mean, (prev + mean) / 2)
        stored[rows] = np.where(np.isnan(new), prev, new)
        before = state.w_K
        state = allocator.fold(
            state,
            fold_input(
                mean,
                prev,
                new,
                iota_N=chance.uniform(0.1, 10, len(rows)),
                num_acked_batches=version,
            ),
        )
        moves = [abs(a - b) for a, b in zip(state.w_K, before, strict=True)]
        assert max(moves) <= 0.05 + 1e-12
        assert math.fsum(state.w_K) == pytest.approx(4.0, abs=1e-9)
        assert 0.625 - 1e-9 <= min(state.w_K) <= max(state.w_K) <= 2.0646
        assert allocator.shares(state).sum() == pytest.approx(1.0, abs=1e-12)
        assert allocator.shares(state)[0] == 0.1
        again = AllocatorState.from_json(json.loads(json.dumps(state.to_json(), allow_nan=False)))
        assert [repr(value) for value in _flat(again)] == [repr(value) for value in _flat(state)]
    # Sums kept by difference are the sums of what is stored.
    seen = ~np.isnan(stored)
    assert state.n_K == tuple(seen.sum(axis=0))
    assert list(state.S_K) == pytest.approx(np.where(seen, stored, 0.0).sum(axis=0).tolist())


def _flat(state: AllocatorState) -> list[float]:
    return [*state.S_K, *state.n_K, *state.M_K, *state.w_K, *state.se_K]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"S_K": None}, "must be a list"),
        ({"w_K": [1.0]}, "differ in length"),
        ({"M_K": ["0.5", None]}, "is not a number"),
        ({"M_K": [True, None]}, "is not a number"),
    ],
)
def test_a_broken_state_is_refused(change: dict[str, JsonValue], match: str) -> None:
    good = initial_state(2).to_json()
    assert AllocatorState.from_json(good).w_K == (1.0, 1.0)
    with pytest.raises(ValueError, match=match):
        AllocatorState.from_json(good | change)
