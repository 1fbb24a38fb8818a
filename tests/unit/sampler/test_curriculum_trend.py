"""Mastery as it is now: sights and trend by hand, in a learner, and in the allocators."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig, Part
from etude_sampler.curriculum import AllocatorState, FoldInput, build, resolve
from etude_sampler.curriculum.micro import micro
from etude_sampler.curriculum.trend import (
    FLOOR,
    SLOPE_VARIANCE,
    Sight,
    Trend,
    Visits,
    moved,
    sight,
    stands_for,
)
from etude_sampler.leasing import Lanes
from support.groups import COMPONENTS
from support.learner import Learner, World

RISING = World(
    num_tasks=2000, batch=128, num_versions=120, batches_in_flight=1, skill_per_version=0.03
)
FEW = World(num_tasks=400, batch=32, num_versions=150, batches_in_flight=2, skill_per_version=0.02)
MANY = World(
    num_tasks=8_000, batch=64, num_versions=70, batches_in_flight=1, skill_per_version=0.02
)


def _visits(
    first: list[float], again: list[float], *, stand_for: tuple[list[float], list[float]]
) -> Visits:
    for_first, for_again = stand_for
    return Visits(np.array(first), np.array(for_first), np.array(again), np.array(for_again))


def test_no_visit_no_sight() -> None:
    assert sight(3.0, 4, _visits([], [], stand_for=([], []))) is None
    assert sight(0.0, 0, _visits([], [0.5], stand_for=([], [1.0]))) is None


def test_first_visits_alone_say_their_mean() -> None:
    found = sight(0.0, 0, _visits([1.0, 0.5], [], stand_for=([1.0, 3.0], [])))
    assert found is not None
    assert found.mean == pytest.approx(0.625)
    assert found.variance == pytest.approx(0.12 * 10 / 16 + FLOOR)


def test_later_visits_alone_say_the_stored_mean_and_the_drift() -> None:
    """The drift is .1, .4 and 0 with weights 1 and 3."""
    found = sight(2.0, 4, _visits([], [0.4, 0.0], stand_for=([], [1.0, 3.0])))
    assert found is not None
    assert found.mean == pytest.approx(0.5 + 0.1)
    assert found.variance == pytest.approx(0.04 * 10 / 16 + FLOOR)


def test_both_count_by_how_many_tasks_they_stand_for() -> None:
    found = sight(2.0, 4, _visits([1.0], [0.1], stand_for=([3.0], [1.0])))
    assert found is not None
    assert found.mean == pytest.approx(0.75 * 1.0 + 0.25 * 0.6)
    apart = 0.75 * 0.25 * 0.1 * 10 / 16
    assert found.variance == pytest.approx(0.75**2 * 0.12 + 0.25**2 * 0.04 + apart + FLOOR)


def test_a_group_stands_for_one_over_the_chance_that_it_was_drawn() -> None:
    """Four slots: of four tasks alike each stands for 1.5, one drawn for certain for itself."""
    assert stands_for(np.full(4, 0.25)).tolist() == pytest.approx([1.5] * 4)
    assert stands_for(np.array([1.0, 0.001])).tolist() == pytest.approx([1.0, 500.5])
    assert stands_for(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("unseen", [0, 240])
def test_however_skewed_the_draws_the_sight_is_without_bias(unseen: int) -> None:
    """Tasks that rose are drawn twenty times as often, tasks never seen are harder, real races."""
    num, slots, draws = 960, 64, 150
    weight_N = np.where(np.arange(num) % 3 == 0, 20.0, 1.0)
    stored_N = np.linspace(0.1, 0.5, num)
    now_N = stored_N + np.where(weight_N > 1.0, 0.3, 0.0)
    is_first_N = np.arange(num) >= num - unseen
    total, seen = float(stored_N[~is_first_N].sum()), num - unseen
    lanes = Lanes(("uniform", "all"), num_tasks=num, seed=5)
    weights_NL = micro(np.stack([np.ones(num), weight_N], axis=1))
    lanes.enter(np.arange(num), weights_NL)
    means = []
    for _ in range(draws):
        drawn = lanes.draw(np.array([0.05, 0.95]), slots)
        first_B = is_first_N[drawn.tasks_B]
        again_B, for_B = drawn.tasks_B[~first_B], stands_for(drawn.probability_B)
        told = Visits(
            now_N[drawn.tasks_B[first_B]],
            for_B[first_B],
            now_N[again_B] - stored_N[again_B],
            for_B[~first_B],
        )
        found = sight(total, seen, told)
        assert found is not None
        means.append(found.mean)
        lanes.enter(drawn.tasks_B, weights_NL[drawn.tasks_B])
    assert np.mean(means) == pytest.approx(now_N.mean(), abs=0.01)


def test_the_first_sight_starts_the_trend() -> None:
    assert moved(None, None) is None
    found = moved(None, Sight(0.4, 0.01))
    assert found == Trend(0.4, 0.0, 0.01, 0.0, SLOPE_VARIANCE)


def test_a_step_by_hand() -> None:
    found = moved(Trend(0.4, 0.01, 0.01, 0.0, 0.0001), Sight(0.5, 0.0101))
    assert found is not None
    assert found.level == pytest.approx(0.41 + 0.5 * 0.09)
    assert found.slope == pytest.approx(0.01 + 0.0001 / 0.0202 * 0.09)
    assert found.level_variance == pytest.approx(0.00505)
    assert found.covariance == pytest.approx(0.00005)
    assert found.slope_variance == pytest.approx(0.00010005 - 0.0001 / 0.0202 * 0.0001)


def test_without_a_sight_it_goes_on_and_is_less_sure() -> None:
    before = Trend(0.4, 0.01, 0.001, 0.0, 0.0001)
    after = moved(before, None)
    assert after is not None
    assert after.level == pytest.approx(0.41)
    assert after.slope == 0.01
    assert after.standard_error > before.standard_error


def test_a_steady_rise_is_followed_without_lag() -> None:
    """Where M, an average with b = .1, would be .036 late."""
    trend = None
    ema = 0.2
    for version in range(150):
        truth = 0.2 + 0.004 * version
        trend = moved(trend, Sight(truth, 0.0005))
        ema = 0.9 * ema + 0.1 * truth
    assert trend is not None
    assert trend.now == pytest.approx(truth, abs=1e-3)
    assert truth - ema == pytest.approx(0.036, abs=1e-3)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 1.0), st.floats(FLOOR, 1.0)) | st.none(), min_size=1, max_size=60
    )
)
def test_it_stays_a_belief(sights: list[tuple[float, float] | None]) -> None:
    """Whatever is seen: finite, in [0, 1], and its variances those of a distribution."""
    trend: Trend | None = None
    for one in sights:
        trend = moved(trend, None if one is None else Sight(*one))
    if trend is not None:
        assert 0.0 <= trend.now <= 1.0
        assert math.isfinite(trend.standard_error)
        assert trend.level_variance * trend.slope_variance >= trend.covariance**2
        assert Trend.of_list(trend.to_list()) == trend


def test_five_numbers() -> None:
    with pytest.raises(ValueError, match="five numbers, not 4"):
        Trend.of_list([0.5, 0.0, 0.1, 0.0])


def _fold(groups: list[tuple[float, float | None]], *, num_acked: int = 9) -> FoldInput:
    """One component's groups: mean, and what was stored before."""
    mean_NK = np.array([[mean] for mean, _ in groups])
    prev_NK = np.array([[mean if prev is None else prev] for mean, prev in groups])
    return FoldInput(
        mean_NK=mean_NK,
        prev_NK=prev_NK,
        new_NK=0.5 * (mean_NK + prev_NK),
        first_NK=np.array([[prev is None] for _, prev in groups]),
        iota_N=np.ones(len(groups)),
        is_control_N=np.arange(len(groups)) == 0,
        num_acked_batches=num_acked,
    )


def _of_one(**knobs: JsonValue) -> CurriculumConfig:
    allocator = Part.model_validate({"name": "tdcl", "knobs": knobs})
    return CurriculumConfig(preset="dscl", prerequisites={}, allocator=allocator)


def test_the_control_arm_alone_and_groups_alike() -> None:
    """`mastery_source` and `iota` are obeyed: here only the first group is of the control arm."""
    folded = replace(_fold([(0.2, None), (1.0, None)]), probability_N=np.array([0.2, 1.0]))
    levels = {}
    asked: dict[str, dict[str, JsonValue]] = {
        "all": {},
        "control": {"mastery_source": "control"},
        "alike": {"iota": False},
    }
    for name, knobs in asked.items():
        allocator = build(resolve(_of_one(**knobs), dataset_subtasks=["format"])).allocator
        (found,) = allocator.view(allocator.fold(allocator.initial(1), folded))
        levels[name] = found.mastery_now
    assert levels == {
        "all": pytest.approx(0.4),
        "control": pytest.approx(0.2),
        "alike": pytest.approx(0.6),
    }


def test_deficits_follow_the_trend_if_asked() -> None:
    """Two components; the second leaps: M lags, the trend is there."""
    names = ("format", "tool_name")
    leap = _fold([(0.1, 0.1)] * 8)
    leap = replace(
        leap,
        mean_NK=np.concatenate([leap.mean_NK, leap.mean_NK + 0.8], axis=1),
        prev_NK=np.concatenate([leap.prev_NK] * 2, axis=1),
        new_NK=np.concatenate([leap.new_NK] * 2, axis=1),
        first_NK=np.concatenate([leap.first_NK] * 2, axis=1),
    )
    found = {}
    for follow in ("ema", "trend"):
        allocator = build(
            resolve(_of_one(follow=follow, step=1.0), dataset_subtasks=names)
        ).allocator
        state = replace(
            allocator.initial(2),
            S_K=(0.8, 0.8),
            n_K=(8, 8),
            M_K=(0.1, 0.1),
            trend_K=(Trend(0.1, 0.0, 0.01, 0.0, SLOPE_VARIANCE),) * 2,
        )
        after = allocator.fold(state, leap)
        found[follow] = (allocator.view(after)[1], after)
    slow, quick = found["ema"][0], found["trend"][0]
    assert slow.mastery == pytest.approx(0.18)
    assert slow.mastery_now == quick.mastery_now == quick.mastery
    assert quick.mastery is not None
    assert quick.mastery > 0.5
    assert quick.now_error is not None
    assert quick.deficit < slow.deficit
    assert found["trend"][1].w_K[1] < found["ema"][1].w_K[1]


def test_a_state_of_a_release_without_it_stays_without_it() -> None:
    allocator = build(resolve(_of_one(follow="trend"), dataset_subtasks=["format"])).allocator
    fresh = allocator.initial(1)
    assert allocator.view(fresh)[0].mastery_now is None
    old = AllocatorState.from_json(
        {name: value for name, value in fresh.to_json().items() if name != "trend_K"}
    )
    after = allocator.fold(old, _fold([(0.5, None)]))
    assert "trend_K" not in after.to_json()
    (found,) = allocator.view(after)
    assert (found.mastery, found.mastery_now, found.now_error) == (0.5, None, None)


def test_a_state_keeps_its_trend() -> None:
    allocator = build(resolve(_of_one(), dataset_subtasks=["format"])).allocator
    state = allocator.initial(1)
    assert AllocatorState.from_json(state.to_json()).trend_K == (None,)
    state = allocator.fold(state, _fold([(0.5, None), (0.25, None)]))
    assert AllocatorState.from_json(state.to_json()).trend_K == state.trend_K


@pytest.mark.parametrize(
    ("trends", "match"),
    [([0.5], "is no trend"), ([], None), ([None, None], "differ in length"), ([[0.5]], "five")],
)
def test_a_broken_trend_is_refused(trends: list[JsonValue], match: str | None) -> None:
    allocator = build(resolve(_of_one(), dataset_subtasks=["format"])).allocator
    data: dict[str, JsonValue] = {**allocator.initial(1).to_json(), "trend_K": trends}
    if match is None:
        assert AllocatorState.from_json(data).trend_K == ()
        return
    with pytest.raises(ValueError, match=match):
        AllocatorState.from_json(data)


@pytest.mark.parametrize(
    ("world", "largest_rms", "least_close"),
    [(RISING, 0.012, 0.95), (FEW, 0.02, 0.85), (MANY, 0.02, 0.9)],
)
def test_it_is_within_two_hundredths(world: World, largest_rms: float, least_close: float) -> None:
    """Of the truth, root mean square of the worst component; few tasks, many, batches in flight."""
    trace = Learner(world, seed=1).run()
    error_VK = (trace.now_VK - trace.truth_VK)[20:]
    assert np.sqrt((error_VK**2).mean(axis=0)).max() < largest_rms
    assert (np.abs(error_VK) <= 0.02).mean() > least_close
    lag_VK = (trace.mastery_VK - trace.truth_VK)[20:]
    assert np.sqrt((lag_VK**2).mean(axis=0)).max() > 1.5 * largest_rms
    z_VK = error_VK / trace.now_error_VK[20:]
    assert 0.5 < np.sqrt((z_VK**2).mean()) < 1.5
    assert trace.now_VK.shape[1] == len(COMPONENTS)
