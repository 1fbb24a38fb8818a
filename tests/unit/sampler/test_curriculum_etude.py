"""Weigher `etude`: examples by hand, every reachable state, cold start, no starvation."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import FoldInput, Seeing, build, is_paced, micro, resolve
from etude_sampler.curriculum.prediction import Spreads
from etude_sampler.curriculum.prediction.difficulty import ease, moderated
from etude_sampler.curriculum.weighers.etude import (
    HEAVIEST,
    REFRESH_AGES,
    EtudeConfig,
    EtudeWeigher,
)
from etude_sampler.leasing import Lanes
from etude_sampler.statistics import (
    Bools,
    EstimatorConstants,
    Floats,
    OutcomeArrays,
    TaskStatistics,
    empty,
    fold,
    summarise,
)
from support.groups import COMPONENTS

FLOOR = 1e-4


def _weigher(
    subtasks: tuple[str, ...] = COMPONENTS, *, num_given: int = 0, **knobs: JsonValue
) -> EtudeWeigher:
    config = CurriculumConfig.model_validate(
        {"preset": "etude", "weigher": {"name": "etude", "knobs": knobs}}
    )
    resolved = resolve(
        config, dataset_subtasks=subtasks, sources=["easy", "hard"], num_given=num_given
    )
    weigher = build(resolved).weigher
    assert isinstance(weigher, EtudeWeigher)
    return weigher


def _group(q_GK: Floats) -> OutcomeArrays:
    """One group of rollouts by component."""
    q_NGK = q_GK[None]
    success_NG = np.all(np.isnan(q_NGK) | (q_NGK == 1.0), axis=2).astype(np.float64)
    shape = success_NG.shape
    return OutcomeArrays(q_NGK, np.nansum(q_NGK, axis=2), success_NG, np.ones(shape, np.bool_))


def _after(
    stats: TaskStatistics, weigher: EtudeWeigher, q_GK: Floats, version: int
) -> tuple[TaskStatistics, FoldInput]:
    """One group of the one task at a version, and what the next version folds of it."""
    summary = summarise(_group(q_GK))
    new = fold(
        stats,
        summary,
        version_N=np.array([version]),
        constants=EstimatorConstants(),
        notes=weigher.knobs.notes,
    )
    first_NK = np.isnan(stats.m_NK) & ~np.isnan(summary.mean_NK)
    return new, FoldInput(
        mean_NK=summary.mean_NK,
        prev_NK=np.where(first_NK, summary.mean_NK, stats.m_NK),
        new_NK=new.m_NK,
        first_NK=first_NK,
        iota_N=np.ones(1),
        is_control_N=np.ones(1, np.bool_),
        num_acked_batches=version + 1,
        ordinal_N=np.array([7]),
        num_valid_N=summary.num_valid_N,
        num_success_N=summary.num_success_N,
        x_NE=new.x_NE,
    )


def _practised(
    weigher: EtudeWeigher, groups: list[Floats]
) -> tuple[EtudeWeigher, TaskStatistics, JsonValue]:
    """The weigher, the one task and the pace after these groups, one a version."""
    stats, pace = empty(1, groups[0].shape[1], (0.0,) * 5), weigher.start()
    for version, q_GK in enumerate(groups):
        stats, folded = _after(stats, weigher, q_GK, version)
        pace = weigher.advance(pace, folded)
    return weigher.at(pace), stats, pace


def test_before_the_first_report_all_tasks_weigh_alike() -> None:
    weights_NK = _weigher().weights(
        empty(3, 4, (0.0,) * 5), np.ones((3, 4), dtype=np.bool_), version=0
    )
    assert weights_NK[0] == pytest.approx((0.14059 / 0.1) ** 4, rel=1e-4)
    assert (weights_NK == weights_NK[0, 0]).all()


def test_before_the_first_version_parts_tell_no_unseen_tasks_apart() -> None:
    """With as many parts or fewer; after a version they are told apart."""
    active_NK = np.array([[True] * 4, [True, False, False, False]])
    weigher, unseen = _weigher(), empty(2, 4, (0.0,) * 5)
    weights_NK = weigher.weights(unseen, active_NK, version=0)
    assert weights_NK[1].tolist() == [weights_NK[0, 0], 0.0, 0.0, 0.0]
    _, folded = _after(empty(1, 4, (0.0,) * 5), weigher, np.ones((8, 4)), 0)
    later = weigher.at(weigher.advance(weigher.start(), folded))
    weights_NK = later.weights(unseen, active_NK, version=1)
    assert weights_NK[1, 0] != weights_NK[0, 0]


def test_difficulties_may_be_far_apart() -> None:
    """A task that failed 24 times where all like it succeed is seldom forecast to succeed."""
    chances = []
    for config in (EtudeConfig(shared_spread=0.8, own_spread=0.8), EtudeConfig()):
        spreads = Spreads(config.shared_spread**2, config.own_spread**2)
        offset, trials = np.array([[4.0]]), np.array([[24.0]])
        mean, variance = ease(offset, trials, np.zeros((1, 1)), spreads=spreads)
        chances.append(float(moderated(offset + mean, variance)[0, 0]))
    narrow, wide = chances
    assert narrow > 0.15
    assert wide < 0.08


rows = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4)
histories = st.lists(st.lists(rows, min_size=2, max_size=8), min_size=1, max_size=12)


@given(histories, st.booleans(), st.integers(0, 16))
@settings(max_examples=60, deadline=None)
def test_every_reachable_weight_is_finite_and_above_the_floor(
    history: list[list[list[float]]], no_call: bool, sharpness: int
) -> None:
    groups = [np.array(group) for group in history]
    if no_call:
        for group in groups:
            group[:, 1:] = np.nan
    weigher, stats, pace = _practised(_weigher(sharpness=sharpness), groups)
    active_NK: Bools = ~np.isnan(stats.m_NK)
    weights_NK = weigher.weights(stats, active_NK, version=len(groups))
    assert (weights_NK[~active_NK] == 0.0).all()
    assert (weights_NK[active_NK] >= FLOOR).all()
    assert (weights_NK[active_NK] <= HEAVIEST).all()
    assert (micro(weights_NK) < 2**32).all()
    told = weigher.explain(stats, 0, len(groups))
    shown = float(re.fullmatch(r".* = (\d+\.\d{4})", told)[1])  # type: ignore[index]
    assert shown == pytest.approx(weights_NK[0, 0], abs=5e-5)
    again = weigher.at(json.loads(json.dumps(pace)))
    assert (again.weights(stats, active_NK, version=0) == weights_NK).all()


def test_a_row_depends_on_no_other_row() -> None:
    weigher, stats, _ = _practised(
        _weigher(), [np.array([[1, 1, 1, 0], [1, 0, 0, 0.0]]), np.ones((4, 4))]
    )
    unseen = empty(1, 4, (0.0,) * 5)
    both = TaskStatistics(
        **{
            name: np.concatenate([getattr(stats, name), getattr(unseen, name)])
            for name in TaskStatistics.__slots__
        }
    )
    active_NK = np.array([[True] * 4, [True, False, False, False]])
    features_NF = np.array([[1.0] * 6 + [0.0], [2.0] * 6 + [1.0]])
    together = weigher.seeing(features_NF).weights(both, active_NK, version=2)
    for row in range(2):
        at = np.array([row])
        alone = weigher.seeing(features_NF[at]).weights(both.select(at), active_NK[at], version=2)
        assert (alone == together[row]).all()


def test_of_several_groups_of_a_task_the_last_counts() -> None:
    weigher = _weigher()
    stats, _ = _after(empty(1, 4, (0.0,) * 5), weigher, np.zeros((4, 4)), 0)
    _, last = _after(stats, weigher, np.ones((4, 4)), 0)
    twice = replace(
        last,
        mean_NK=np.repeat(last.mean_NK, 2, axis=0),
        prev_NK=np.repeat(last.prev_NK, 2, axis=0),
        ordinal_N=np.repeat(last.ordinal_N, 2),
        num_valid_N=np.repeat(last.num_valid_N, 2),
        num_success_N=np.repeat(last.num_success_N, 2),
        x_NE=np.repeat(last.x_NE, 2, axis=0),
    )
    twice.mean_NK[0], twice.num_success_N[0] = 0.0, 0
    assert weigher.advance(weigher.start(), twice) == weigher.advance(weigher.start(), last)


def _world_fold(rng: np.random.Generator, version: int) -> tuple[FoldInput, Floats]:
    """40 first groups of 8 with one success each side of a half: source 0 is easy, 1 is hard."""
    source_N = np.arange(40) % 2
    features_NF = np.zeros((40, 7))
    features_NF[:, 6] = source_N
    won_N = rng.binomial(8, np.where(source_N == 0, 0.9, 0.1))
    mean_NK = (won_N / 8.0)[:, None]
    x_NE = np.zeros((40, 5))
    x_NE[:, 0], x_NE[:, 1] = version, 8.0
    return (
        FoldInput(
            mean_NK=mean_NK,
            prev_NK=mean_NK,
            new_NK=mean_NK,
            first_NK=np.ones((40, 1), np.bool_),
            iota_N=np.ones(40),
            is_control_N=np.ones(40, np.bool_),
            num_acked_batches=version + 1,
            ordinal_N=np.arange(40) + 40 * version,
            num_valid_N=np.full(40, 8),
            num_success_N=won_N,
            x_NE=x_NE,
            features_NF=features_NF,
        ),
        features_NF,
    )


def test_unseen_tasks_are_predicted_from_their_features() -> None:
    """Cold start; also a binary reward with one unknown sub-task."""
    rng, weigher = np.random.default_rng(5), _weigher(("answer",))
    pace = weigher.start()
    features_NF = np.zeros((0, 0))
    for version in range(5):
        folded, features_NF = _world_fold(rng, version)
        pace = weigher.advance(pace, folded)
    unseen, active_NK = empty(2, 1, (0.0,) * 5), np.ones((2, 1), dtype=np.bool_)
    told = weigher.at(pace).seeing(features_NF[:2])
    assert isinstance(told, Seeing)
    success_N = told.predict(unseen, active_NK).joint.success_N
    assert success_N[0] == pytest.approx(0.9, abs=0.12)
    assert success_N[1] == pytest.approx(0.1, abs=0.12)
    blind = weigher.at(pace).predict(unseen, active_NK).joint.success_N
    assert success_N[1] < blind[0] < success_N[0]


def test_what_is_mastered_comes_back_when_the_policy_forgets() -> None:
    weigher, stats, _ = _practised(_weigher(("answer",)), [np.ones((8, 1))] * 3)
    active_NK = np.ones((1, 1), dtype=np.bool_)
    known = weigher.weights(stats, active_NK, version=3)[0, 0]
    worse = replace(weigher.ability, mean_HD=weigher.ability.mean_HD - 1.5)
    forgotten = replace(weigher, ability=worse).weights(stats, active_NK, version=3)[0, 0]
    assert known < 0.2
    assert forgotten > 5.0 * known


@pytest.mark.no_cover
def test_nothing_starves() -> None:
    """A task of the smallest weight among the heaviest waits for lane `uniform`, no longer."""
    num_tasks, victim = 60, 17
    weights_NL = micro(np.array([[1.0, HEAVIEST]] * num_tasks))
    weights_NL[victim, 1] = micro(np.array([FLOOR]))[0]
    lanes = Lanes(("uniform", "race"), num_tasks=num_tasks, seed=3)
    lanes.enter(np.arange(num_tasks), weights_NL)
    waits, since = [], 0
    for _ in range(6000):
        drawn = lanes.draw(np.array([0.05, 0.95]), 20)
        since += int(np.count_nonzero(drawn.lanes_B == 0))
        if victim in drawn.tasks_B:
            assert drawn.lanes_B[list(drawn.tasks_B).index(victim)] == 0
            waits.append(since)
            since = 0
        lanes.enter(drawn.tasks_B, weights_NL[drawn.tasks_B])
    # In slots of `uniform` its wait is geometric with at least 1/N: mean N, beyond 10 N e^-10.
    assert np.mean(waits) == pytest.approx(num_tasks, rel=0.3)
    assert max(waits) < 10 * num_tasks


def test_weights_are_refreshed_ever_less_often() -> None:
    assert REFRESH_AGES[:10] == (1, 2, 3, 4, 6, 8, 11, 16, 23, 32)
    assert REFRESH_AGES[-1] == 1024
    assert _weigher().refresh_ages == REFRESH_AGES


def test_the_preset_has_a_control_arm_and_a_pace() -> None:
    resolved = resolve(CurriculumConfig(preset="etude"), dataset_subtasks=COMPONENTS)
    curriculum = build(resolved)
    assert resolved.control_share == 0.05
    assert resolved.features[-1] == "source"
    assert is_paced(curriculum)
    assert [note.name for note in curriculum.notes] == ["visits"]


def test_features_of_users_are_inputs_too() -> None:
    assert _weigher(num_given=3).design.width == _weigher().design.width + 3
