"""What a curriculum asks of tasks: lanes by source or level, features, notes; and the pace."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from etude_proto.v1 import Message, Task, TaskCreate, Tool
from etude_proto.v1.curriculum import CurriculumConfig, Part, ResolvedCurriculum
from etude_proto.v1.tasks import Call, CallsReference, ToolRLReference
from etude_sampler.curriculum import (
    AllocatorState,
    ConfigFault,
    Dated,
    Seeing,
    at_pace,
    build,
    dated,
    fold_state,
    is_paced,
    lanes_by,
    reads_features,
    resolve,
    same_parts,
    start_state,
)
from etude_sampler.curriculum.asking import notes_of_parts
from etude_sampler.curriculum.features import FEATURES, feature_names
from etude_sampler.curriculum.levels import UNKNOWN, lane_members, level, level_name
from etude_sampler.curriculum.parts import Context
from etude_sampler.datasets.features import encode_features, features_of_body, task_features
from etude_sampler.service.forking import carried_notes, carried_state
from etude_sampler.statistics import summarise
from support.groups import COMPONENTS, binary_group, fold_input


def _resolved(preset: str, **config: object) -> ResolvedCurriculum:
    told = CurriculumConfig.model_validate({"preset": preset, **config})
    return resolve(told, dataset_subtasks=["a b", "c"], sources=["a b", "c"])


def test_lanes_are_the_presets_unless_said_otherwise() -> None:
    assert lanes_by(CurriculumConfig(preset="dscl")) == "subtasks"
    assert lanes_by(CurriculumConfig(preset="sec")) == "source"
    assert lanes_by(CurriculumConfig(preset="ladder")) == "level"
    assert lanes_by(CurriculumConfig(preset="sec", lanes_by="subtasks")) == "subtasks"
    with pytest.raises(ConfigFault, match="unknown preset"):
        lanes_by(CurriculumConfig(preset="nothing"))


def test_lanes_of_sources_have_no_prerequisites() -> None:
    resolved = _resolved("dscl", lanes_by="source")
    assert (resolved.lanes, resolved.prerequisites) == (["uniform", "a b", "c"], {})
    by_names = resolve(
        CurriculumConfig(preset="dscl", lanes_by="source"), dataset_subtasks=COMPONENTS
    )
    assert by_names.prerequisites == {}, "though the names are those of ToolRL's chain"
    assert resolve(CurriculumConfig(), dataset_subtasks=COMPONENTS).prerequisites


def test_too_many_sources_and_a_reserved_one_are_refused() -> None:
    config = CurriculumConfig(preset="sec")
    with pytest.raises(ConfigFault, match="name 33 sources"):
        resolve(config, dataset_subtasks=[f"s{i}" for i in range(33)])
    with pytest.raises(ConfigFault, match="reserved"):
        resolve(config, dataset_subtasks=["uniform", "other"])
    with pytest.raises(ConfigFault, match="no task has the source"):
        resolve(config.model_copy(update={"subtasks": ["x"]}), dataset_subtasks=["a", "b"])


@pytest.mark.parametrize(("right", "value"), [(8, 0.0), (6, 0.25), (1, 0.875), (0, 1.0)])
def test_ladder_levels(right: int, value: float) -> None:
    assert level(right / 8) == value
    assert level_name(right / 8) == level_name(str(right / 8)) == f"level_{8 - right}"


@pytest.mark.parametrize("rate", [None, True, "true", "", -0.1, 1.1, float("nan"), [0.5]])
def test_what_is_no_rate_has_no_level(rate: object) -> None:
    assert level_name(rate) is None


def test_members_of_lanes() -> None:
    assert lane_members("level", ["0.5"]) == ("level_4",)
    assert lane_members("level", [""]) == (UNKNOWN,)
    assert lane_members("source", ["my set"]) == ("my set",)
    assert lane_members("subtasks", ["x", "y"]) == ("x", "y")


def test_features_are_asked_for_by_weighers_that_read_them() -> None:
    assert reads_features(CurriculumConfig(preset="etude"))
    assert not reads_features(CurriculumConfig(preset="dscl"))
    assert reads_features(CurriculumConfig(preset="dscl", weigher=Part(name="etude")))
    assert not reads_features(CurriculumConfig(preset="etude", weigher=Part(name="rds")))
    assert not reads_features(CurriculumConfig(preset="nothing"))
    resolved = _resolved("etude")
    assert resolved.features == [*FEATURES, "source"]
    assert resolved.sources == ["a b", "c"]
    assert (_resolved("dscl").features, _resolved("dscl").sources) == ([], [])
    assert isinstance(build(resolved).weigher, Seeing)
    assert feature_names(2)[-2:] == ["given_0", "given_1"]


def _task(**more: object) -> TaskCreate:
    return TaskCreate(
        messages=[Message(role="user", content="abcd"), Message(role="user", content="ef")],
        tools=[Tool(name="t")] * 3,
        reference=CallsReference(calls=[Call(name="t", parameters={"x": 1, "y": 2})]),
        subtasks=["format"],
        **more,  # type: ignore[arg-type]
    )


def test_features_of_a_task() -> None:
    found = task_features(_task(metadata={"features": [0.5, 2]}))
    assert np.expm1(found[:6]) == pytest.approx([3, 1, 2, 6, 2, 1])
    assert found[6:] == [0.5, 2.0]


@pytest.mark.parametrize(
    "given",
    [None, "x", {"a": 1}, [1, "x"], [True], [float("1e300")], [0.0] * 65],
)
def test_features_that_are_none_are_left_out(given: object) -> None:
    assert len(task_features(_task(metadata={"features": given}))) == len(FEATURES)


def test_gold_that_cannot_be_read_counts_as_no_call() -> None:
    task = _task().model_copy(update={"reference": ToolRLReference(text="no tags at all")})
    assert task_features(task)[1:3] == [0.0, 0.0]
    assert task_features(task.model_copy(update={"reference": None}))[1:3] == [0.0, 0.0]


def test_features_of_an_old_import_are_computed_from_its_body() -> None:
    task = _task(metadata={"features": [7]})
    stored = Task(id="task_1", ordinal=0, **task.model_dump(exclude={"aids"}))
    assert features_of_body(stored.model_dump_json().encode()) == encode_features(task)


def test_two_parts_that_keep_one_note_differently_are_refused() -> None:
    resolved = _resolved("arcus")
    context = Context(subtasks=("a b", "c"), control_share=0.1)
    assert [note.name for note in notes_of_parts(resolved, context)] == ["arcus"]
    # `weigher` and a second kind whose table knows the same part under other knobs.
    other = resolved.weigher.model_copy(update={"knobs": {"drift": 0.5}})

    class Twice(ResolvedCurriculum):
        def __iter__(self):  # type: ignore[no-untyped-def]  # pydantic's own has no annotation
            yield "weigher", resolved.weigher
            yield "weigher", other

    with pytest.raises(ConfigFault, match="keeps another note 'arcus'"):
        notes_of_parts(Twice.model_validate(resolved.model_dump()), context)


def test_a_pace_is_kept_under_the_kind_of_its_part() -> None:
    plain, paced = build(_resolved("dscl")), build(_resolved("greso"))
    assert (is_paced(plain), is_paced(paced)) == (False, True)
    assert start_state(plain).pace == {}
    assert at_pace(plain, {"weigher": 1}) is plain
    state = start_state(paced)
    assert state.pace == {"weigher": [0.5, 0.5]}
    assert at_pace(paced, {}) is paced
    told = fold_input(np.full((1, 2), 0.5))
    without = fold_state(paced, replace(state, pace={}), told)
    assert without.pace == fold_state(paced, state, told).pace, "it begins with the start"


def test_a_state_with_a_pace_survives_storage() -> None:
    state = start_state(build(_resolved("greso")))
    assert AllocatorState.from_json(state.to_json()).pace == state.pace
    assert "pace" not in start_state(build(_resolved("dscl"))).to_json()
    with pytest.raises(ValueError, match="must be an object"):
        AllocatorState.from_json({**state.to_json(), "pace": 3})


def test_a_fork_keeps_the_pace_and_notes_of_parts_that_stay() -> None:
    greso, again = _resolved("greso"), _resolved("greso", control_share=0.5)
    assert "weigher" in same_parts(greso, again)
    moved = replace(start_state(build(greso)), pace={"weigher": [0.25, 0.75]})
    stored = json.dumps(moved.to_json())
    assert carried_state(stored, greso, again) == stored
    arcus, late = _resolved("arcus"), _resolved("late_learned", weigher=_late("arcus"))
    assert '"pace"' not in carried_state(stored, greso, arcus)
    begun = AllocatorState.from_json(json.loads(carried_state(stored, greso, late)))
    assert begun.pace == start_state(build(late)).pace
    assert carried_notes(build(arcus), build(arcus)) is None
    notes = carried_notes(build(arcus), build(late))
    assert notes is not None
    assert (notes.took, notes.fresh[2]) == ((0, 1, -1), -1.0)
    gone = carried_notes(build(late), build(greso))
    assert gone is not None
    assert (gone.took, gone.fresh) == ((), ())


def _late(weigher: str) -> dict[str, object]:
    return {"name": "late_learned", "knobs": {"weigher": weigher}}


def test_the_gate_of_vcrl_grows_stricter() -> None:
    gate = build(_resolved("vcrl")).gate
    assert isinstance(gate, Dated)
    groups = [summarise(binary_group(8, m)) for m in range(9)]

    def kept(version: int) -> list[int]:
        now = dated(gate, version)
        return [m for m, group in enumerate(groups) if now.admit(group)[0]]

    assert kept(19) == list(range(1, 8))
    assert kept(20) == [3, 4, 5]
    alone = build(_resolved("uniform", gate={"name": "vcrl"})).gate
    assert isinstance(alone, Dated)
    assert alone.at_version(500).admit(groups[1]).tolist() == [True]
    plain = build(_resolved("dapo")).gate
    assert dated(plain, 20) is plain
