"""From config to curriculum: defaults, presets, and every fault with its pointer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig, ResolvedCurriculum, ResolvedPart
from etude_sampler.curriculum import (
    PRESETS,
    ConfigFault,
    build,
    moves_weights,
    resolve,
)
from etude_sampler.curriculum.faults import pointer
from etude_sampler.statistics import empty
from support.groups import COMPONENTS, fold_input
from support.shared_data import examples

Config = dict[str, JsonValue]


def _resolve(config: Config, subtasks: tuple[str, ...] = COMPONENTS) -> ResolvedCurriculum:
    return resolve(CurriculumConfig.model_validate(config), dataset_subtasks=subtasks)


def test_the_default_is_dscl_with_every_knob_written_out() -> None:
    resolved = _resolve({})
    document = examples("dscl_examples.json")
    constants = document.at("constants")
    assert resolved.preset == "dscl"
    assert resolved.lanes == ["uniform", *COMPONENTS]
    assert resolved.control_share == constants.number("rho")
    assert resolved.prerequisites == {
        "tool_name": ["format"],
        "param_name": ["tool_name"],
        "param_value": ["param_name"],
    }
    assert resolved.weigher.knobs == {
        "eps": constants.number("eps"),
        "c_st": constants.number("c_st"),
        "t_st": constants.number("T_st"),
        "mast": constants.number("mast"),
        "mast_visits": constants.number("mast_visits"),
    }
    knobs = resolved.allocator.knobs
    assert knobs["tau"] == constants.numbers("tau")
    for knob, key in (("b", "b"), ("lam", "lam"), ("w_min", "w_min"), ("w_max", "w_max")):
        assert knobs[knob] == constants.number(key)
    assert knobs["step"] == constants.number("dw")
    assert resolved.gate.knobs == {"keep_variance": 1e-8, "on": "reward"}
    assert build(resolved).estimator.a == constants.number("a")


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_survives_storage_and_works(preset: str) -> None:
    resolved = _resolve({"preset": preset})
    stored = ResolvedCurriculum.model_validate_json(resolved.model_dump_json())
    assert stored == resolved
    curriculum = build(stored)
    stats = empty(3, 4, curriculum.shape.fresh)
    weights = curriculum.weigher.weights(stats, np.ones((3, 4), dtype=bool), version=0)
    assert (weights == weights[0, 0]).all()
    assert weights[0, 0] > 0.1
    allocator = curriculum.allocator
    folded = fold_input(np.full((2, 4), 0.5), is_control_N=[True, True])
    state = allocator.fold(allocator.initial(4), folded)
    assert state.M_K == (0.5,) * 4
    assert allocator.shares(state).sum() == pytest.approx(1.0)
    drawn_uniformly = resolved.control_share if curriculum.pool is None else 1.0
    assert allocator.shares(state)[0] == drawn_uniformly
    assert allocator.component_weights(state).sum() == pytest.approx(4.0)
    assert [numbers.mastery for numbers in allocator.view(state)] == [0.5] * 4


@pytest.mark.parametrize(
    ("preset", "weigher", "allocator", "gate", "share"),
    [
        ("uniform", "uniform", "fixed", "zero_variance", 1.0),
        ("gate_only", "uniform", "fixed", "zero_variance", 1.0),
        ("ungated", "uniform", "fixed", "none", 1.0),
        ("dscl_rds_only", "rds", "tdcl", "zero_variance", 0.1),
        ("dscl_tdcl_only", "uniform", "tdcl", "zero_variance", 0.1),
        ("dscl_scalar", "rds_scalar", "tdcl", "zero_variance", 0.1),
        ("mixed_group", "mixed_group", "joint", "zero_variance", 0.05),
        ("learnability", "learnability", "joint", "zero_variance", 0.05),
        ("success_band", "success_band", "joint", "success_band", 0.05),
        ("kimi", "kimi", "joint", "zero_variance", 0.05),
        ("cures", "cures", "joint", "zero_variance", 0.05),
        ("vcrl", "uniform", "fixed", "vcrl", 1.0),
        ("dapo", "uniform", "fixed", "dapo", 1.0),
    ],
)
def test_what_presets_choose(
    preset: str, weigher: str, allocator: str, gate: str, share: float
) -> None:
    resolved = _resolve({"preset": preset})
    parts = (resolved.weigher.name, resolved.allocator.name, resolved.gate.name)
    assert parts == (weigher, allocator, gate)
    assert resolved.control_share == share


def test_ablations_by_knob() -> None:
    assert _resolve({"preset": "dscl_rds_only"}).allocator.knobs["adapt"] is False
    assert _resolve({"preset": "dscl_no_iota"}).allocator.knobs["iota"] is False
    assert _resolve({"preset": "dscl_no_prerequisites"}).prerequisites == {}


def test_sub_tasks_default_to_those_that_the_tasks_have() -> None:
    resolved = _resolve({}, ("weather", "param_value", "format", "math"))
    assert resolved.subtasks == ["format", "param_value", "weather", "math"]
    # The missing links of the chain are bridged.
    assert resolved.prerequisites == {"param_value": ["format"]}
    assert resolved.allocator.knobs["tau"] == {
        "format": 0.98,
        "param_value": 0.9,
        "weather": 0.9,
        "math": 0.9,
    }


def test_a_config_replaces_parts_of_the_preset() -> None:
    resolved = _resolve(
        {
            "preset": "dscl",
            "weigher": {"name": "rds", "knobs": {"eps": 1}},
            "allocator": {"name": "tdcl", "knobs": {"tau": {"format": 0.5}, "tau_other": 0.8}},
            "gate": {"name": "none"},
            "subtasks": ["tool_name", "format"],
            "prerequisites": {"format": ["tool_name", "tool_name"]},
            "control_share": 0.3,
        }
    )
    assert resolved.lanes == ["uniform", "tool_name", "format"]
    assert resolved.weigher.knobs["eps"] == 1.0
    assert resolved.allocator.knobs["tau"] == {"tool_name": 0.95, "format": 0.5}
    assert resolved.prerequisites == {"format": ["tool_name"]}
    assert resolved.control_share == 0.3


@pytest.mark.parametrize(
    ("config", "at", "detail"),
    [
        ({"preset": "dcsl"}, "/curriculum/preset", "known: uniform, dscl,"),
        ({"weigher": {"name": "x"}}, "/curriculum/weigher/name", "known: uniform, rds,"),
        ({"allocator": {"name": "x"}}, "/curriculum/allocator/name", "known: fixed, tdcl"),
        ({"gate": {"name": "x"}}, "/curriculum/gate/name", "known: none, zero_variance"),
        (
            {"weigher": {"name": "rds", "knobs": {"epsilon": 0.1}}},
            "/curriculum/weigher/knobs/epsilon",
            "known: eps, c_st",
        ),
        (
            {"weigher": {"name": "rds", "knobs": {"a/b~c": 0.1}}},
            "/curriculum/weigher/knobs/a~1b~0c",
            "unknown knob",
        ),
        (
            {"weigher": {"name": "rds", "knobs": {"eps": "0.1"}}},
            "/curriculum/weigher/knobs/eps",
            "valid number",
        ),
        (
            {"weigher": {"name": "rds", "knobs": {"eps": True}}},
            "/curriculum/weigher/knobs/eps",
            "valid number",
        ),
        (
            {"weigher": {"name": "rds", "knobs": {"eps": 0}}},
            "/curriculum/weigher/knobs/eps",
            "greater than 0",
        ),
        (
            {"weigher": {"name": "rds", "knobs": {"t_st": 2.5}}},
            "/curriculum/weigher/knobs/t_st",
            "valid integer",
        ),
        (
            {"weigher": {"name": "rds_scalar", "knobs": {"low": 4}}},
            "/curriculum/weigher/knobs",
            "low must be below high",
        ),
        (
            {"allocator": {"name": "tdcl", "knobs": {"tau": {"format": 1.5}}}},
            "/curriculum/allocator/knobs/tau/format",
            "less than or equal to 1",
        ),
        (
            {"allocator": {"name": "tdcl", "knobs": {"tau": {"math": 0.5}}}},
            "/curriculum/allocator/knobs/tau/math",
            "format, tool_name",
        ),
        (
            {"allocator": {"name": "tdcl", "knobs": {"mastery_source": "some"}}},
            "/curriculum/allocator/knobs/mastery_source",
            "'all' or 'control'",
        ),
        (
            {"allocator": {"name": "fixed", "knobs": {"shares": {"math": 1}}}},
            "/curriculum/allocator/knobs/shares/math",
            "not a lane",
        ),
        (
            {"allocator": {"name": "fixed", "knobs": {"shares": {"format": -1}}}},
            "/curriculum/allocator/knobs/shares/format",
            "not negative",
        ),
        (
            {"allocator": {"name": "fixed", "knobs": {"shares": {"format": 0}}}},
            "/curriculum/allocator/knobs/shares",
            "sum to 0",
        ),
        ({"subtasks": ["format", "math"]}, "/curriculum/subtasks/1", "no task has"),
        ({"subtasks": ["format", "format"]}, "/curriculum/subtasks/1", "twice"),
        ({"subtasks": ["uniform"]}, "/curriculum/subtasks/0", "reserved"),
        ({"prerequisites": {"math": []}}, "/curriculum/prerequisites/math", "no sub-task"),
        (
            {"prerequisites": {"format": ["tool_name", "math"]}},
            "/curriculum/prerequisites/format/1",
            "no sub-task",
        ),
        (
            {"prerequisites": {"format": ["tool_name"], "tool_name": ["format"]}},
            "/curriculum/prerequisites/format",
            "format -> tool_name -> format",
        ),
        (
            {"prerequisites": {"param_name": ["format"], "format": ["format"]}},
            "/curriculum/prerequisites/format",
            "format -> format",
        ),
    ],
)
def test_faults_name_the_field(config: Config, at: str, detail: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        _resolve(config)
    assert caught.value.pointer == at
    assert detail in caught.value.detail


def test_too_many_sub_tasks_and_the_reserved_name_in_the_data() -> None:
    with pytest.raises(ConfigFault, match="the tasks name 33 sub-tasks"):
        _resolve({}, tuple(f"skill_{k}" for k in range(33)))
    with pytest.raises(ConfigFault, match="reserved"):
        _resolve({}, ("format", "uniform"))
    with pytest.raises(ConfigFault, match="known: none"):
        _resolve({"subtasks": ["format"]}, ())


def test_a_stored_part_that_is_gone_is_a_fault() -> None:
    gone = ResolvedPart(name="gone", knobs={})
    resolved = _resolve({}).model_copy(update={"weigher": gone})
    with pytest.raises(ConfigFault) as caught:
        build(resolved)
    assert caught.value.pointer == "/curriculum/weigher/name"


def test_faults_survive_pickling() -> None:
    fault = pickle.loads(pickle.dumps(ConfigFault(pointer("curriculum", 1), "why")))
    assert (fault.pointer, fault.detail, str(fault)) == (
        "/curriculum/1",
        "why",
        "/curriculum/1: why",
    )


def test_lanes_by_number() -> None:
    """A fork's ledger may name a lane that only its origin had."""
    plain, pooled = build(_resolve({"preset": "dscl"})), build(_resolve({"preset": "plr"}))
    assert [plain.lane_name(lane) for lane in (0, 4, 5)] == ["uniform", "param_value", "former"]
    assert [pooled.lane_name(lane) for lane in (4, 5, 6)] == ["param_value", "pool", "former"]


def test_which_curricula_move_the_weights_of_components() -> None:
    moving = [name for name in ("dscl", "dscl_rds_only", "uniform") if _moves({"preset": name})]
    assert moving == ["dscl"]
    assert not _moves({"preset": "dscl", "lanes_by": "source"}), "sources are no components"


def _moves(config: Config) -> bool:
    return moves_weights(_resolve(config))
