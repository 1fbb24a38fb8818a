"""Weights of `rds`, number for number, and for every state that folds can reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import Weigher, build, micro, resolve
from etude_sampler.curriculum.weighers.terms import learning_value, stale_levels
from etude_sampler.statistics import (
    EstimatorConstants,
    Floats,
    OutcomeArrays,
    TaskStatistics,
    empty,
    fold,
    summarise,
)
from support.groups import COMPONENTS, outcomes
from support.shared_data import Examples, examples

DSCL = "dscl_examples.json"
ALL = np.ones((1, 4), dtype=np.bool_)


def _weigher(name: str = "rds", **knobs: float) -> Weigher:
    config = CurriculumConfig.model_validate({"weigher": {"name": name, "knobs": knobs}})
    return build(resolve(config, dataset_subtasks=COMPONENTS)).weigher


def _visit(stats: TaskStatistics, case: Examples, *, version: int = 0) -> TaskStatistics:
    """One group of one task, from an example's `q`."""
    q = {
        name: [case.number("q", name, j) for j in range(4)]
        for name in COMPONENTS
        if case.at("q").has(name)
    }
    summary = summarise(outcomes([q]))
    return fold(stats, summary, version_N=np.array([version]), constants=EstimatorConstants())


def _named(row: Floats) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in zip(COMPONENTS, row, strict=True)
        if not np.isnan(value)
    }


@pytest.mark.parametrize("place", range(6))
def test_first_visits(place: int) -> None:
    case = examples(DSCL).at("first_visit", place)
    stats = _visit(empty(1, 4), case)
    assert _named(stats.m_NK[0]) == pytest.approx(case.numbers("m"), abs=1e-6)
    assert _named(stats.v_NK[0]) == pytest.approx(case.numbers("v"), abs=1e-6)
    value = learning_value(stats.m_NK, stats.v_NK)[0]
    assert _named(value) == pytest.approx(case.numbers("u"), abs=1e-6)


def test_a_second_visit() -> None:
    document = examples(DSCL)
    case = document.at("second_visit")
    by_name = {row.text("name"): row for row in document.rows("first_visit")}
    stats = empty(1, 4)
    for place in range(2):
        stats = _visit(stats, by_name[case.text("visits", place)])
    assert _named(stats.m_NK[0]) == pytest.approx(case.numbers("m"), abs=1e-6)
    assert _named(stats.v_NK[0]) == pytest.approx(case.numbers("v"), abs=1e-6)
    value = learning_value(stats.m_NK, stats.v_NK)[0]
    assert _named(value) == pytest.approx(case.numbers("u"), abs=1e-6)


def test_learning_value_of_binary_outcomes() -> None:
    for row in examples(DSCL).rows("u_of_binary"):
        mean = row.number("m")
        value = learning_value(np.array([mean]), np.array([mean * (1 - mean)]))
        assert value[0] == pytest.approx(row.number("u"), abs=1e-6)


def test_staleness_rises_in_four_steps() -> None:
    rows = examples(DSCL).rows("stale")
    ages = np.array([int(row.number("age")) for row in rows])
    assert (stale_levels(ages, 14) / 4).tolist() == [row.number("stale") for row in rows]
    assert stale_levels(np.array([-3]), 14).tolist() == [0]


def _seen(u: float, *, full: int = 0, last: int = 0) -> TaskStatistics:
    """One task with learning value `u` in lane `format`: mean 0, variance u^2 / 4."""
    stats = empty(1, 4)
    return replace(
        stats,
        m_NK=np.array([[0.0, np.nan, np.nan, np.nan]]),
        v_NK=np.array([[u * u / 4, np.nan, np.nan, np.nan]]),
        full_N=np.array([full]),
        n_N=np.array([1]),
        last_N=np.array([last]),
    )


def test_lane_weights() -> None:
    for row in examples(DSCL).rows("lane_weight"):
        if row.has("case"):
            stats, age = empty(1, 4), 5
        else:
            stats = _seen(row.number("u"), full=int(row.number("full_visits")))
            age = int(row.number("age"))
        weight = _weigher().weights(stats, ALL, version=age)[0, 0]
        assert weight == pytest.approx(row.number("weight"), abs=1e-6)


def test_weights_change_at_the_refresh_ages_only() -> None:
    weigher, stats = _weigher(), _seen(0.5)
    by_age = [weigher.weights(stats, ALL, version=age)[0, 0] for age in range(40)]
    changes = tuple(age for age in range(1, 40) if by_age[age] != by_age[age - 1])
    assert changes == weigher.refresh_ages == (4, 7, 11, 14)


@pytest.mark.parametrize(
    ("name", "knobs", "ages"),
    [
        ("rds", {"t_st": 2}, (1, 2)),
        ("rds", {"t_st": 1}, (1,)),
        ("rds", {"c_st": 0.0}, ()),
        ("rds_scalar", {"t_st": 8}, (2, 4, 6, 8)),
        ("uniform", {}, ()),
    ],
)
def test_refresh_ages(name: str, knobs: dict[str, float], ages: tuple[int, ...]) -> None:
    assert _weigher(name, **knobs).refresh_ages == ages


def test_inactive_lanes_weigh_nothing_and_unseen_ones_most() -> None:
    active = np.array([[True, False, True, False]])
    weights = _weigher().weights(_seen(0.7), active, version=0)
    assert weights[0].tolist() == pytest.approx([0.72, 0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("u", "full", "version", "text"),
    [
        (
            np.sqrt(0.5),
            0,
            4,
            "eps 0.02 + u 0.7071 (4v 0.500 x headroom 1.0000) + staleness 0.025 = 0.7521",
        ),
        (
            0.0,
            2,
            14,
            "(eps 0.02 + u 0.0000 (4v 0.000 x headroom 1.0000) + staleness 0.100)"
            " x mastered 0.1 = 0.0120",
        ),
    ],
)
def test_an_explanation_adds_up(u: float, full: int, version: int, text: str) -> None:
    stats, weigher = _seen(u, full=full), _weigher()
    assert weigher.explain(stats, 0, version) == text
    weight = weigher.weights(stats, ALL, version=version)[0, 0]
    assert text.endswith(f"= {weight:.4f}")
    assert weigher.explain(stats, 1, version) == "unseen: 1 = 1.0000"


def test_the_explanation_of_a_coin() -> None:
    stats = _visit(empty(1, 4), examples(DSCL).at("first_visit", 2))
    assert _weigher().explain(stats, 1, 4) == (
        "eps 0.02 + u 0.7071 (4v 1.000 x headroom 0.5000) + staleness 0.025 = 0.7521"
    )


def test_the_uniform_weigher() -> None:
    active = np.array([[True, False, True, False]])
    assert _weigher("uniform").weights(empty(1, 4), active, version=3).tolist() == [[1, 0, 1, 0]]
    assert _weigher("uniform").explain(empty(1, 4), 0, 3).endswith("= 1.0000")


def test_the_scalar_ablation_sees_the_reward_only() -> None:
    """R = (4, 4, -3, -3): mean .5 and variance .25 of the range; a no-call gold spans [0, 1]."""
    call = {"format": [1.0, 1.0, 0.0, 0.0], "tool_name": [1.0] * 4}
    no_call = {"format": [1.0, 1.0, 1.0, 0.0]}
    groups = outcomes([call, no_call], rewards=[[4, 4, -3, -3], [1, 1, 1, 0]])
    now = np.zeros(2, np.int64)
    stats = fold(empty(2, 4), summarise(groups), version_N=now, constants=EstimatorConstants())
    active = np.array([[True, True, True, True], [True, False, False, False]])
    weigher = _weigher("rds_scalar")
    weights = weigher.weights(stats, active, version=0)
    assert weights[0].tolist() == pytest.approx([0.02 + np.sqrt(0.5)] * 4)
    assert weights[1].tolist() == pytest.approx([0.02 + 0.4330127, 0, 0, 0])
    assert weigher.weights(empty(2, 4), active, version=0).tolist() == active.tolist()
    for row in range(2):
        text = weigher.explain(stats.select(np.array([row])), 0, 0)
        assert text.endswith(f"= {weights[row, 0]:.4f}")
    assert weigher.explain(empty(1, 4), 0, 0) == "unseen: 1 = 1.0000"


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    versions=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    name=st.sampled_from(["rds", "rds_scalar", "uniform"]),
    grid=st.sampled_from([1, 2, 4, 1000]),
)
def test_weights_of_every_reachable_state_are_finite_and_above_the_floor(
    seed: int, versions: list[int], name: str, grid: int
) -> None:
    chance = np.random.default_rng(seed)
    weigher, stats = _weigher(name), empty(6, 4)
    active = np.ones((6, 4), dtype=np.bool_)
    active[:2, 1:] = False
    size = int(chance.integers(2, 9))
    for version in sorted(versions):
        q_NGK = chance.integers(0, grid + 1, size=(6, size, 4)) / grid
        q_NGK[chance.random(6) < 0.4] = 1.0
        q_NGK = np.where(active[:, None, :], q_NGK, np.nan)
        groups = OutcomeArrays(
            q_NGK=q_NGK,
            reward_NG=chance.uniform(-3, 4, size=(6, size)),
            success_NG=np.nanmin(q_NGK, axis=2),
            valid_NG=np.ones((6, size), dtype=np.bool_),
        )
        now = np.full(6, version)
        folded = fold(stats, summarise(groups), version_N=now, constants=EstimatorConstants())
        stats = folded if version % 2 else stats
        for age in (0, 4, 13, 90):
            weights = weigher.weights(stats, active, version=version + age)
            assert np.isfinite(weights).all()
            assert (weights[~active] == 0.0).all()
            assert (weights[active] >= 0.02 * 0.1).all()
            assert (weights[active] <= 1.0 + 0.02 + 0.1).all()
            counts = micro(weights)
            assert (counts[active] >= 2000).all()
            assert (counts[~active] == 0).all()


def test_micro_rounds_and_keeps_what_is_positive() -> None:
    weights = np.array([[0.52, 1e-9, 0.0, 1.4999995e-6]])
    assert micro(weights).tolist() == [[520_000, 1, 0, 1]]
    assert micro(weights).dtype == np.int64


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_micro_refuses_what_is_no_weight(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        micro(np.array([1.0, bad]))
