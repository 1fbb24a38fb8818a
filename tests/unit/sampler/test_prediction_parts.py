"""Pieces of the item-response model: heads, visits, difficulty of tasks, ability of the policy."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_sampler.curriculum.prediction import (
    VISITS,
    Ability,
    Drift,
    Evidence,
    Heads,
    Model,
    Spreads,
    make_design,
    make_heads,
)
from etude_sampler.curriculum.prediction.ability import MAX_PAST, Observed
from etude_sampler.curriculum.prediction.difficulty import ease, moderated, sigmoid
from etude_sampler.statistics import (
    EstimatorConstants,
    Floats,
    TaskStatistics,
    empty,
    fold,
    summarise,
)
from support.groups import COMPONENTS, binary_group

CHAIN = {"tool_name": COMPONENTS[:1], "param_name": COMPONENTS[:2], "param_value": COMPONENTS[:3]}
SPREADS = Spreads(shared=0.64, own=0.36)
chances = st.floats(0.01, 0.99)


def _chain() -> Heads:
    return make_heads(COMPONENTS, CHAIN)


def test_heads_split_a_chain_into_steps() -> None:
    mean_NK = np.array([[1.0, 0.75, 0.5, 0.25], [0.5, np.nan, np.nan, np.nan]])
    share_NH, held_NH = _chain().split(mean_NK, np.array([0.125, 0.5]))
    assert share_NH.tolist() == [[1.0, 1.0, 0.75, 0.5, 0.25], [1.0, 0.0, 0.0, 0.0, 0.5]]
    assert held_NH.tolist() == [[1.0, 0.75, 0.5, 0.25, 0.125], [0.5, 0.0, 0.0, 0.0, 0.5]]


def test_components_without_links_are_taken_one_by_one() -> None:
    heads = make_heads(COMPONENTS, {})
    share_NH, held_NH = heads.split(np.array([[0.5, 0.25, 1.0, 0.75]]), np.array([0.125]))
    assert share_NH.tolist() == [[1.0, 1.0, 1.0, 1.0, 0.25]]
    assert held_NH.tolist() == [[0.5, 0.25, 1.0, 0.75, 0.125]]


def test_a_component_may_come_before_its_prerequisite_in_lane_order() -> None:
    heads = make_heads(("last", "first"), {"last": ("first",)})
    share_NH, _ = heads.split(np.array([[0.25, 0.5]]), np.array([0.25]))
    assert heads.order == (1, 0)
    assert share_NH.tolist() == [[0.5, 1.0, 0.25]]
    assert heads.join(np.array([[0.5, 0.5, 1.0]])).share_NH.tolist() == [[0.5, 1.0, 0.25]]


@given(st.lists(chances, min_size=5, max_size=5), st.booleans())
def test_join_undoes_split(chance: list[float], chained: bool) -> None:
    heads = make_heads(COMPONENTS, CHAIN if chained else {})
    chance_NH = np.array([chance])
    joint = heads.join(chance_NH)
    held_NK = joint.held_NH[:, :4]
    share_NH, held_NH = heads.split(held_NK, joint.success_N)
    assert np.allclose(share_NH, joint.share_NH)
    assert np.allclose(held_NH / share_NH, chance_NH)


@given(st.lists(chances, min_size=5, max_size=5), st.booleans())
def test_rise_is_the_derivative_of_log_success(chance: list[float], chained: bool) -> None:
    heads = make_heads(COMPONENTS, CHAIN if chained else {})
    logit = np.log(np.array([chance]) / (1.0 - np.array([chance])))
    joint = heads.join(np.array([chance]))
    step = 1e-6
    risen_NH = heads.join(sigmoid(logit + step)).held_NH
    slope_NH = (np.log(risen_NH) - np.log(joint.held_NH)) / step
    assert slope_NH == pytest.approx(joint.rise_NH, abs=1e-4)
    assert (joint.rise_NH <= -np.log(joint.held_NH) + 1e-12).all()


def _visited(groups: list[tuple[int, int]]) -> TaskStatistics:
    """A task after groups (successes, policy version)."""
    stats = empty(1, 1, VISITS.fresh)
    for successes, version in groups:
        stats = fold(
            stats,
            summarise(binary_group(8, successes)),
            version_N=np.array([version]),
            constants=EstimatorConstants(),
            notes=(VISITS,),
        )
    return stats


def test_visits_date_and_weigh_the_averages() -> None:
    one, two = 2, 6
    assert _visited([]).x_NE.tolist() == [[0.0] * 5]
    assert _visited([(one, 4)]).x_NE.tolist() == [[4.0, 8.0, 0.0, 0.0, 0.0]]
    assert _visited([(one, 4), (two, 10)]).x_NE.tolist() == [[7.0, 16.0, 4.0, 8.0, 0.25]]
    third = _visited([(one, 4), (two, 10), (one, 11)])
    assert third.x_NE[0] == pytest.approx([9.0, 64 / 3, 7.0, 16.0, 0.5])


def test_a_task_without_trials_is_as_its_features_say() -> None:
    none_NH = np.zeros((2, 5))
    mean_NH, variance_NH = ease(none_NH + 1.0, none_NH, none_NH, spreads=SPREADS)
    assert (mean_NH == 0.0).all()
    assert variance_NH == pytest.approx(1.0)


def _log_posterior(u: Floats, offset_H: Floats, trials_H: Floats, held_H: Floats) -> float:
    """Of heads' ease u: the binomial terms, and the normal prior of shared + own."""
    chance_H = sigmoid(offset_H + u)
    prior = SPREADS.shared * np.ones((len(u), len(u))) + SPREADS.own * np.eye(len(u))
    seen = held_H * np.log(chance_H) + (trials_H - held_H) * np.log(1.0 - chance_H)
    return float(seen.sum() - 0.5 * u @ np.linalg.solve(prior, u))


@given(st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 24), chances), min_size=2, max_size=4))
@settings(max_examples=50)
def test_ease_is_the_mode_and_the_curvature_there(heads: list[tuple[float, int, float]]) -> None:
    offset_H, trials_H = np.array([h[0] for h in heads]), np.array([float(h[1]) for h in heads])
    held_H = trials_H * np.array([h[2] for h in heads])
    mean_NH, variance_NH = ease(offset_H[None], trials_H[None], held_H[None], spreads=SPREADS)
    top = _log_posterior(mean_NH[0], offset_H, trials_H, held_H)
    for head in range(len(heads)):
        for step in (-0.02, 0.02):
            aside = mean_NH[0] + step * np.eye(len(heads))[head]
            assert _log_posterior(aside, offset_H, trials_H, held_H) < top
    chance_H = sigmoid(offset_H + mean_NH[0])
    prior = SPREADS.shared * np.ones((len(heads), len(heads))) + SPREADS.own * np.eye(len(heads))
    bend = np.diag(trials_H * chance_H * (1.0 - chance_H))
    exact = np.diag(np.linalg.inv(bend + np.linalg.inv(prior)))
    assert variance_NH[0] == pytest.approx(exact, rel=1e-6)


def test_doubt_moves_a_chance_towards_a_half() -> None:
    assert moderated(np.array([2.0]), np.array([0.0])) == pytest.approx(0.8808, abs=5e-5)
    assert moderated(np.array([2.0]), np.array([8.0 / math.pi])) == pytest.approx(
        sigmoid(np.array([2.0 / math.sqrt(2.0)]))
    )
    assert sigmoid(np.array([-1e9, 1e9])).tolist() == pytest.approx([0.0, 1.0])


def test_inputs_are_a_constant_the_source_and_centred_features() -> None:
    design = make_design(("num_calls", "source", "given_0"), num_sources=3)
    inputs_ND = design.inputs(np.array([[0.7, 2.0, 9.0], [math.log(3.0), 0.0, -0.5]]))
    assert design.width == 6
    assert inputs_ND[0].tolist() == [1.0, 0.0, 0.0, 1.0, 0.0, 4.0]
    assert inputs_ND[1] == pytest.approx([1.0, 1.0, 0.0, 0.0, math.log(3.0) - 0.7, -0.5])


def test_one_source_says_nothing() -> None:
    assert make_design(("source",), num_sources=1).width == 1
    assert make_design((), num_sources=5).inputs(np.zeros((2, 0))).tolist() == [[1.0], [1.0]]
    assert make_design(("source",), num_sources=99).width == 17


def _groups(rng: np.random.Generator, slopes_HD: Floats, num: int) -> Observed:
    """Groups of 8 of ordinary tasks at these true slopes."""
    num_heads, width = slopes_HD.shape
    inputs_JD = np.concatenate([np.ones((num, 1)), rng.normal(size=(num, width - 1))], axis=1)
    trials_JH = np.full((num, num_heads), 8.0)
    return Observed(
        inputs_JD=inputs_JD,
        ease_JH=np.zeros((num, num_heads)),
        variance_JH=np.zeros((num, num_heads)),
        trials_JH=trials_JH,
        share_JH=rng.binomial(8, sigmoid(inputs_JD @ slopes_HD.T)) / 8.0,
    )


def test_ability_finds_the_slopes_and_follows_them() -> None:
    rng, drift = np.random.default_rng(7), Drift()
    slopes_HD = np.array([[1.5, -1.0, 0.5], [-0.5, 0.0, 1.0]])
    ability = Ability.start(2, 3, drift)
    for version in range(1, 21):
        ability = ability.moved(_groups(rng, slopes_HD, 16), version, drift)
    assert ability.mean_HD == pytest.approx(slopes_HD, abs=0.25)
    for version in range(21, 41):
        ability = ability.moved(_groups(rng, slopes_HD + 1.0, 16), version, drift)
    assert ability.mean_HD == pytest.approx(slopes_HD + 1.0, abs=0.35)
    then = ability.at(np.array([19.5]), np.array([[1.0, 0.0, 0.0]]))
    assert then[0] == pytest.approx(slopes_HD[:, 0], abs=0.35)


def test_groups_that_tried_nothing_teach_nothing() -> None:
    drift = Drift(start=1.0, step=0.5)
    groups = _groups(np.random.default_rng(1), np.array([[2.0, 1.0]]), 3)
    untried = Observed(
        groups.inputs_JD,
        groups.ease_JH,
        groups.variance_JH,
        np.zeros_like(groups.trials_JH),
        groups.share_JH,
    )
    moved = Ability.start(1, 2, drift).moved(untried, 1, drift)
    assert (moved.mean_HD == 0.0).all()
    assert (moved.variance_HD == 1.5).all()


def test_a_group_far_from_what_was_believed_does_not_overshoot() -> None:
    """All right where one in 400 was expected; also where nothing was seen for 10,000 versions."""
    drift = Drift()
    start = Ability.start(1, 1, drift)
    sure = replace(start, mean_HD=np.array([[-6.0]]))
    right = Observed(*(np.array([[x]]) for x in (1.0, 0.0, 0.0, 8.0, 1.0)))
    assert sure.moved(right, 1, drift).mean_HD[0, 0] == pytest.approx(-4.0)
    none = _groups(np.random.default_rng(0), np.zeros((1, 1)), 0)
    for version in range(10_000):
        sure = sure.moved(none, version, drift)
    assert sure.variance_HD[0, 0] == 4.0 * drift.start
    assert sure.moved(right, 10_000, drift).mean_HD[0, 0] == pytest.approx(-4.0)


def _climbing(num_versions: int) -> Ability:
    """An ability whose one slope was v / 10 after version v."""
    drift = Drift()
    ability = Ability.start(1, 1, drift)
    none = _groups(np.random.default_rng(0), np.zeros((1, 1)), 0)
    for version in range(1, num_versions + 1):
        moved = Ability(
            ability.version,
            np.array([[version / 10.0]]),
            ability.variance_HD,
            ability.stride,
            ability.past_P,
            ability.mean_PHD,
        )
        ability = moved.moved(none, version, drift)
    return ability


@pytest.mark.parametrize("num_versions", [0, 1, 5, 12, 13, 100, 1000])
def test_the_past_is_kept_coarsely(num_versions: int) -> None:
    ability = _climbing(num_versions)
    assert len(ability.past_P) <= MAX_PAST
    versions_N = np.linspace(0.0, num_versions, 23)
    past_NH = ability.at(versions_N, np.ones((23, 1)))
    assert past_NH[:, 0] == pytest.approx(versions_N / 10.0)
    assert ability.now(np.ones((1, 1)))[0, 0] == pytest.approx(num_versions / 10.0)


def test_ability_is_json_to_the_bit() -> None:
    rng, drift = np.random.default_rng(3), Drift()
    ability = Ability.start(2, 3, drift)
    for version in range(1, 30):
        ability = ability.moved(_groups(rng, np.ones((2, 3)), 4), version, drift)
    text = json.dumps(ability.to_json())
    back = Ability.from_json(json.loads(text))
    assert json.dumps(back.to_json()) == text
    again = _groups(rng, np.ones((2, 3)), 4)
    assert back.moved(again, 30, drift).to_json() == ability.moved(again, 30, drift).to_json()


@pytest.mark.parametrize("data", [None, 3, []])
def test_something_else_is_no_ability(data: JsonValue) -> None:
    with pytest.raises(ValueError, match="kept as an object"):
        Ability.from_json(data)


def test_rollouts_that_never_came_to_a_head_teach_little_of_it() -> None:
    """Of 8 rollouts 2 passed the first component; the second failed in all that tried it."""
    model = Model(make_heads(("first", "second"), {"second": ("first",)}), SPREADS, Drift())
    start = Ability.start(3, 1, model.drift)
    none = Evidence(np.full((1, 2), np.nan), np.zeros(1), np.zeros(1), np.zeros(1))
    moved = []
    for passed in (1.0, 0.25):
        group = Evidence(np.array([[passed, 0.0]]), np.zeros(1), np.full(1, 8.0), np.zeros(1))
        after = model.learn(start, np.ones((1, 1)), none, group, 1)
        moved.append(float(after.mean_HD[1, 0]))
        assert after.mean_HD[2, 0] == 0.0, "success was never tried"
    assert moved[0] < 1.2 * moved[1] < 0.0
