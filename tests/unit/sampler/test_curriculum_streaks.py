"""Weighers that remember: arcus, greso, late_learned; section 5's examples, and every state."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import (
    ConfigFault,
    Curriculum,
    Weigher,
    at_pace,
    build,
    fold_state,
    micro,
    resolve,
    start_state,
)
from etude_sampler.curriculum.weighers.arcus import START_MEAN, START_VARIANCE, ArcusWeigher, value
from etude_sampler.curriculum.weighers.greso import GresoWeigher, refill_tasks
from etude_sampler.curriculum.weighers.late_learned import Histogram, LateLearnedWeigher
from etude_sampler.statistics import TaskStatistics, empty, fold, summarise
from support.groups import binary_group, fold_input

ONE = np.ones((1, 1), dtype=np.bool_)


def _curriculum(preset: str, **knobs: JsonValue) -> Curriculum:
    config: dict[str, JsonValue] = {"preset": preset}
    if knobs:
        config["weigher"] = {"name": preset, "knobs": knobs}
    return build(resolve(CurriculumConfig.model_validate(config), dataset_subtasks=["success"]))


def _seen(
    curriculum: Curriculum, stats: TaskStatistics, right: int, *, size: int = 8, version: int = 0
) -> TaskStatistics:
    """The one task's statistics after a group with `right` right rollouts."""
    return fold(
        stats,
        summarise(binary_group(size, right)),
        version_N=np.array([version]),
        constants=curriculum.estimator,
        notes=curriculum.notes,
    )


def _fresh(curriculum: Curriculum, num: int = 1) -> TaskStatistics:
    return empty(num, 1, curriculum.shape.fresh)


def _weight(weigher: Weigher, stats: TaskStatistics, version: int = 0) -> float:
    return float(weigher.weights(stats, ONE, version=version)[0, 0])


@pytest.mark.parametrize(
    ("right", "mean", "variance", "worth"),
    [
        (4, 0.7854, 0.02573, 0.9036),
        (1, 0.4549, 0.02573, 0.5770),
        (0, 0.1831, 0.04793, 0.1762),
        (8, 1.3877, 0.04793, None),
    ],
)
def test_arcus_observes_a_group(
    right: int, mean: float, variance: float, worth: float | None
) -> None:
    curriculum = _curriculum("arcus")
    before = _fresh(curriculum)
    belief = before.x_NE[0].tolist()
    assert belief == [START_MEAN, START_VARIANCE]
    start = value(before.x_NE[:, 0], before.x_NE[:, 1], group_size=8)[0]
    assert start == pytest.approx(0.5143, abs=5e-5)
    after = _seen(curriculum, before, right)
    assert after.x_NE[0].tolist() == pytest.approx([mean, variance], abs=5e-5)
    if worth is not None:
        found = value(after.x_NE[:, 0], after.x_NE[:, 1], group_size=8)[0]
        assert found == pytest.approx(worth, abs=5e-5)
        assert _weight(curriculum.weigher, after) == pytest.approx(found ** (1 / 0.3))
        assert f"(kappa y {worth:.4f})^(1/0.3)" in curriculum.weigher.explain(after, 0, 0)


def test_arcus_knows_less_the_longer_ago_a_task_was_seen() -> None:
    curriculum = _curriculum("arcus", drift=0.01)
    stats = _seen(curriculum, _fresh(curriculum), 0, version=5)
    weigher = curriculum.weigher
    assert isinstance(weigher, ArcusWeigher)
    now, later = _weight(weigher, stats, 5), _weight(weigher, stats, 5 + weigher.refresh_ages[0])
    assert later > now, "a task that failed long ago is worth another look"
    aged = _seen(curriculum, stats, 0, version=15)
    fresh = _seen(curriculum, stats, 0, version=5)
    assert aged.x_NE[0, 1] > fresh.x_NE[0, 1]
    unseen = _fresh(curriculum)
    assert _weight(weigher, unseen, 0) == _weight(weigher, unseen, 500), "nothing to go stale"


@pytest.mark.parametrize(
    ("streak", "keep"),
    [(0, 1), (1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625), (5, 0.0312), (6, 0.0156), (7, 0.01)],
)
def test_greso_keeps_less_the_longer_the_streak(streak: int, keep: float) -> None:
    curriculum = _curriculum("greso")
    for right, word in ((8, "right"), (0, "wrong")):
        stats = _fresh(curriculum)
        for _ in range(streak):
            stats = _seen(curriculum, stats, right)
        assert _weight(curriculum.weigher, stats) == pytest.approx(keep, abs=5.1e-5)
        line = curriculum.weigher.explain(stats, 0, 0)
        assert (f"all {word} {streak} times" in line) == (streak > 0)
        assert line.endswith(f"= {_weight(curriculum.weigher, stats):.4f}")


def _bases(weigher: Weigher) -> tuple[float, float]:
    assert isinstance(weigher, GresoWeigher)
    return weigher.easy, weigher.hard


def test_greso_moves_its_bases_by_the_share_of_such_groups() -> None:
    curriculum = _curriculum("greso")
    state = start_state(curriculum)
    assert _bases(at_pace(curriculum, state.pace).weigher) == (0.5, 0.5)

    def after(rights: list[int]) -> tuple[float, float]:
        groups = fold_input(np.full((len(rights), 1), 0.5))
        told = replace(
            groups,
            num_valid_N=np.full(len(rights), 8),
            num_success_N=np.array(rights, dtype=np.int64),
        )
        return _bases(at_pace(curriculum, fold_state(curriculum, state, told).pace).weigher)

    assert after([8, *[4] * 11]) == pytest.approx((0.49, 0.51)), "1 of 12 is the easy target"
    assert after([8, *[4] * 12]) == pytest.approx((0.51, 0.51))
    assert after([0, 0, *[4] * 10]) == pytest.approx((0.51, 0.49)), "2 of 12 is the hard one"
    assert after([0, *[4] * 6]) == pytest.approx((0.51, 0.51))
    assert after([]) == (0.5, 0.5)


def test_greso_stays_between_its_bounds() -> None:
    curriculum = _curriculum("greso")
    state = start_state(curriculum)
    told = replace(
        fold_input(np.full((1, 1), 1.0)), num_valid_N=np.array([8]), num_success_N=np.array([8])
    )
    for _ in range(100):
        state = fold_state(curriculum, state, told)
    assert _bases(at_pace(curriculum, state.pace).weigher) == pytest.approx((0.05, 0.95))


@pytest.mark.parametrize(
    ("remaining", "zero_share", "tasks"), [(256, 0.5, 80), (2048, 0.5, 384), (8, 0.2, 64)]
)
def test_greso_refill(remaining: int, zero_share: float, tasks: int) -> None:
    assert refill_tasks(remaining, zero_share=zero_share, group_size=8) == tasks


def test_greso_cannot_refill_from_nothing() -> None:
    with pytest.raises(ValueError, match="zero_share"):
        refill_tasks(8, zero_share=1.0, group_size=8)


def test_late_learned_doubles_the_later_half() -> None:
    found = Histogram()
    for version in (3, 8, 20, 40):
        found = found.with_learned(version, 1)
    assert found.cut() == 20
    curriculum = _curriculum("late_learned")
    stats = replace(_fresh(curriculum, 5), x_NE=np.array([[3.0], [8.0], [20.0], [40.0], [-1.0]]))
    pace: JsonValue = {"width": 1, "counts": list(found.counts), "other": None}
    weigher = at_pace(curriculum, {"weigher": pace}).weigher
    plain = build(
        resolve(CurriculumConfig(preset="mixed_group"), dataset_subtasks=["success"])
    ).weigher
    active = np.ones((5, 1), dtype=np.bool_)
    ratio = weigher.weights(stats, active, version=10) / plain.weights(stats, active, version=10)
    assert ratio[:, 0].tolist() == [1, 1, 2, 2, 1]
    assert (
        weigher.weights(stats, active, version=9) == plain.weights(stats, active, version=9)
    ).all(), "not in the first tenth"
    assert weigher.explain(stats.select(slice(3, 4)), 0, 10).endswith("x 2 (learned at version 40)")
    assert weigher.explain(stats.select(slice(4, 5)), 0, 10).endswith("x 1 (never learned)")
    assert weigher.refresh_ages == plain.refresh_ages


def test_late_learned_notes_the_first_version_with_half_right() -> None:
    curriculum = _curriculum("late_learned")
    stats = _fresh(curriculum)
    for version, right, learned in ((2, 0, -1.0), (4, 8, 4.0), (6, 0, 4.0), (7, 8, 4.0)):
        stats = _seen(curriculum, stats, right, version=version)
        assert stats.x_NE[0].tolist() == [learned]


def test_late_learned_counts_a_task_once() -> None:
    curriculum = _curriculum("late_learned")
    told = replace(
        fold_input(np.full((4, 1), 1.0), num_acked_batches=6),
        ordinal_N=np.array([7, 7, 8, 9]),
        x_NE=np.array([[5.0], [5.0], [5.0], [2.0]]),
    )
    state = fold_state(curriculum, start_state(curriculum), told)
    pace = state.pace["weigher"]
    assert isinstance(pace, dict)
    assert pace["counts"] == [0, 0, 0, 0, 0, 2]
    again = replace(told, x_NE=np.full((4, 1), 2.0))
    assert fold_state(curriculum, state, again).pace == state.pace


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 9)), max_size=40))
def test_the_histogram_keeps_its_count_and_halves(learned: list[tuple[int, int]]) -> None:
    found = Histogram()
    for version, num in sorted(learned):
        found = found.with_learned(version, num)
    total = sum(num for _, num in learned)
    assert sum(found.counts) == total
    assert len(found.counts) <= 256
    later = sum(num for version, num in learned if version >= found.cut())
    assert later <= total // 2
    assert math.isinf(found.cut()) or later > 0


def test_late_learned_takes_a_weigher_with_a_pace_of_its_own() -> None:
    curriculum = _curriculum("late_learned", weigher="greso", knobs={"start": 0.3})
    state = start_state(curriculum)
    told = replace(
        fold_input(np.full((1, 1), 1.0), num_acked_batches=1),
        num_valid_N=np.array([8]),
        num_success_N=np.array([8]),
        x_NE=np.full((1, 1), -1.0),
    )
    weigher = at_pace(curriculum, fold_state(curriculum, state, told).pace).weigher
    assert isinstance(weigher, LateLearnedWeigher)
    assert _bases(weigher.other) == pytest.approx((0.29, 0.31))


@pytest.mark.parametrize(
    ("knobs", "pointer"),
    [
        ({"weigher": "late_learned"}, "/curriculum/weigher/knobs/weigher"),
        ({"weigher": "nothing"}, "/curriculum/weigher/knobs/weigher"),
        ({"weigher": "etude"}, "/curriculum/weigher/knobs/weigher"),
        ({"weigher": "kimi", "knobs": {"floor": 7}}, "/curriculum/weigher/knobs/knobs/floor"),
        ({"weigher": "kimi", "knobs": {"roof": 7}}, "/curriculum/weigher/knobs/knobs/roof"),
    ],
)
def test_late_learned_refuses_what_it_cannot_multiply(
    knobs: dict[str, JsonValue], pointer: str
) -> None:
    with pytest.raises(ConfigFault) as caught:
        _curriculum("late_learned", **knobs)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("preset", ["greso", "late_learned"])
@pytest.mark.parametrize("pace", [["x"], {"width": "x"}, [0.5], 3])
def test_a_pace_of_another_shape_is_refused(preset: str, pace: JsonValue) -> None:
    with pytest.raises(ValueError, match="pace of"):
        at_pace(_curriculum(preset), {"weigher": pace})


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(2, 16), min_size=1, max_size=25),
    preset=st.sampled_from(["arcus", "greso", "late_learned"]),
    kind=st.sampled_from(["right", "wrong", "any"]),
)
def test_weights_of_every_reachable_state_are_finite_and_above_the_floor(
    seed: int, sizes: list[int], preset: str, kind: str
) -> None:
    chance = np.random.default_rng(seed)
    curriculum = _curriculum(preset)
    stats, state = _fresh(curriculum), start_state(curriculum)
    for version, size in enumerate(sizes, start=1):
        right = {"right": size, "wrong": 0, "any": int(chance.integers(0, size + 1))}[kind]
        stats = _seen(curriculum, stats, right, size=size, version=version - 1)
        told = replace(
            fold_input(stats.m_NK, num_acked_batches=version),
            num_valid_N=np.array([size]),
            num_success_N=np.array([right]),
            x_NE=stats.x_NE,
        )
        state = fold_state(curriculum, state, told)
        weigher = at_pace(curriculum, state.pace).weigher
        for age in (0, *weigher.refresh_ages):
            weights = weigher.weights(stats, np.array([[True, False]]), version=version + age)
            assert np.isfinite(weights).all()
            assert 1e-3 <= weights[0, 0] <= 2.0
            assert weights[0, 1] == 0.0
            assert micro(weights)[0, 0] >= 1000
