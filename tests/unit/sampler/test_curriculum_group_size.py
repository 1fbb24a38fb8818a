"""The G of weighers: the run's group size, or its budget's mean, unless a knob says otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig, ResolvedCurriculum
from etude_sampler.curriculum import build, part_table, resolve
from etude_sampler.curriculum.weighers.per_task import mixed_probability
from etude_sampler.simulation.strategies import make_arm
from etude_sampler.statistics import empty
from support.groups import COMPONENTS

SIZED = [name for name, part in part_table().weighers.items() if "group_size" in part.model_fields]


def _resolved(config: dict[str, JsonValue], *, group_size: int) -> ResolvedCurriculum:
    named = CurriculumConfig.model_validate(config)
    return resolve(named, dataset_subtasks=COMPONENTS, group_size=group_size)


def test_these_weighers_have_a_group_size() -> None:
    assert SIZED == ["mixed_group", "arcus", "etude"]


@pytest.mark.parametrize("name", SIZED)
def test_the_runs_group_size_is_written_out_and_a_knob_wins(name: str) -> None:
    assert _resolved({"preset": name}, group_size=5).weigher.knobs["group_size"] == 5
    given: dict[str, JsonValue] = {"name": name, "knobs": {"group_size": 3}}
    told = _resolved({"preset": name, "weigher": given}, group_size=5)
    assert told.weigher.knobs["group_size"] == 3


@pytest.mark.parametrize(
    ("budget", "mean"),
    [
        ({"name": "group_size"}, 6),
        ({"name": "cures"}, 6),
        ({"name": "knapsack"}, 6),
        ({"name": "speed"}, 16),
        ({"name": "speed", "knobs": {"first": 2, "more": 9}}, 5),
    ],
)
def test_a_budget_says_its_mean(budget: JsonValue, mean: int) -> None:
    """`speed`: 4 + 20 x .6, as four rollouts disagree with chance .6 under flat p."""
    resolved = _resolved({"preset": "mixed_group", "budget": budget}, group_size=6)
    assert resolved.weigher.knobs["group_size"] == mean


def test_the_mean_of_speed_is_that_of_flat_chances() -> None:
    chances = (np.arange(10_000) + 0.5) / 10_000
    going = np.mean(1.0 - chances**4 - (1.0 - chances) ** 4)
    assert going == pytest.approx(0.6, abs=1e-6)


def test_a_multiplied_weigher_gets_it_too() -> None:
    resolved = _resolved({"preset": "late_learned"}, group_size=5)
    assert resolved.weigher.knobs["knobs"] == {"group_size": 5}
    inner: dict[str, JsonValue] = {"weigher": "arcus", "knobs": {"group_size": 7, "drift": 0.5}}
    told = _resolved(
        {"preset": "late_learned", "weigher": {"name": "late_learned", "knobs": inner}},
        group_size=5,
    )
    assert told.weigher.knobs["knobs"] == inner["knobs"]


@pytest.mark.parametrize("group_size", [2, 5, 16])
def test_the_weight_is_of_that_size(group_size: int) -> None:
    curriculum = build(_resolved({"preset": "mixed_group"}, group_size=group_size))
    stats = empty(1, 4)
    stats.s_N[:], stats.f_N[:] = 1.0, 3.0
    found = curriculum.weigher.weights(stats, np.ones((1, 4), dtype=bool), version=0)
    want = mixed_probability(stats.s_N + 0.5, stats.f_N + 0.5, group_size)
    assert found[0, 0] == want[0]
    assert f"G {group_size})" in curriculum.weigher.explain(stats, 0, 0)


def test_a_run_of_before_this_keeps_eight() -> None:
    """Stored runs have their number; `late_learned` had none for the weigher inside."""
    resolved = _resolved({"preset": "late_learned"}, group_size=5)
    old = resolved.weigher.model_copy(update={"knobs": {**resolved.weigher.knobs, "knobs": {}}})
    weigher = build(resolved.model_copy(update={"weigher": old})).weigher
    stats = empty(1, 4, build(resolved).shape.fresh)
    assert "G 8)" in weigher.explain(stats, 0, 0)


def test_simulated_arms_are_told_the_plans() -> None:
    weigher = make_arm("mixed_group", group_size=4).curriculum.weigher
    assert "G 4)" in weigher.explain(empty(1, 4), 0, 0)
    with pytest.raises(KeyError):
        make_arm("nothing")
