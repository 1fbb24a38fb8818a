"""Single parts of a curriculum: fixed shares, gates, graphs, the table and its plug-ins."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig, ResolvedCurriculum
from etude_sampler.curriculum import (
    Context,
    PartConfig,
    build,
    describe,
    part_table,
    resolve,
)
from etude_sampler.curriculum.prerequisites import ancestors, find_cycle, restrict
from etude_sampler.curriculum.table import BUILT_IN, make_table
from etude_sampler.curriculum.weighers.uniform import UniformWeigherConfig
from etude_sampler.statistics import summarise
from support.groups import COMPONENTS, fold_input, outcomes
from support.shared_data import examples

Config = dict[str, JsonValue]


def _resolve(config: Config, subtasks: tuple[str, ...] = COMPONENTS) -> ResolvedCurriculum:
    return resolve(CurriculumConfig.model_validate(config), dataset_subtasks=subtasks)


def test_fixed_shares() -> None:
    config: Config = {"preset": "uniform", "control_share": 0.2}
    equal = build(_resolve(config)).allocator
    assert equal.shares(equal.initial(4)).tolist() == pytest.approx([0.2] * 5)
    given: Config = {"name": "fixed", "knobs": {"shares": {"format": 3, "param_value": 1}}}
    fixed = build(_resolve(config | {"allocator": given})).allocator
    state = fixed.fold(fixed.initial(4), fold_input(np.full((2, 4), 0.3)))
    assert fixed.shares(state).tolist() == pytest.approx([0.2, 0.6, 0.0, 0.0, 0.2])
    assert fixed.component_weights(state).tolist() == [1.0] * 4
    assert state.M_K == (0.3,) * 4
    assert fixed.view(state)[3].threshold == 0.9


def test_fixed_without_component_lanes() -> None:
    allocator = build(_resolve({"preset": "uniform"}, ())).allocator
    assert allocator.shares(allocator.initial(0)).tolist() == [1.0]


def test_gates() -> None:
    """n = 1, K = 4: rewards 3 and 3 from different components (section 3.7)."""
    case = examples("dscl_examples.json").at("gate")
    groups = [
        {"format": [1.0, 0.0], "param_value": [0.75, 1.0]},
        {"format": [1.0, 1.0], "param_value": [0.5, 0.5]},
        {"format": [1.0, 1.0], "param_value": [0.5, 0.0]},
    ]
    rewards = [[case.number("R", 0), case.number("R", 1)], [1.0, 1.0], [4.0, 1.0]]
    summary = summarise(outcomes(groups, rewards=rewards))

    def admitted(gate: Config) -> list[bool]:
        part: list[bool] = build(_resolve({"gate": gate})).gate.admit(summary).tolist()
        return part

    by_components: Config = {"name": "zero_variance", "knobs": {"on": "components"}}
    strict: Config = {"name": "zero_variance", "knobs": {"keep_variance": 3}}
    assert admitted({"name": "zero_variance"}) == [False, False, True]
    assert admitted(by_components) == [True, False, True]
    assert admitted(strict) == [False, False, False]
    assert admitted({"name": "none"}) == [True, True, True]


def test_graphs() -> None:
    diamond = {"d": ["b", "c"], "b": ["a"], "c": ["a"]}
    assert find_cycle(diamond) is None
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert ancestors(diamond, "d") == {"a", "b", "c"}
    assert restrict(diamond, ["a", "d"]) == {"d": ["a"]}
    assert restrict(diamond, ["a", "b"]) == {"b": ["a"]}


def test_every_knob_of_every_part_explains_itself() -> None:
    parts = describe(part_table())
    assert len(parts) == len(BUILT_IN)
    for part in parts:
        assert part.summary.endswith(".")
        for knob in part.knobs:
            assert knob.summary, (part.name, knob.name)
            assert knob.default
    eps = next(knob for part in parts if part.name == "rds" for knob in part.knobs)
    assert (eps.name, eps.default) == ("eps", "0.02")


class Nameless(PartConfig):
    """A config of no kind."""

    name = "nameless"


def test_the_table_refuses_doubles_and_what_is_no_part() -> None:
    with pytest.raises(ValueError, match="two parts are named 'uniform'"):
        make_table([*BUILT_IN, UniformWeigherConfig])
    with pytest.raises(TypeError, match="Nameless"):
        make_table([Nameless])


def test_a_context_has_no_prerequisites_by_default() -> None:
    assert Context(subtasks=("format",), control_share=0.1).prerequisites == {}
