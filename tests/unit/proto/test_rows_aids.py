"""Aids of tasks in imported lines: in both shapes, checked, and no part of a task's identity."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import JsonValue

from etude_proto.rows.jsonl import jsonl_task
from etude_proto.rows.stream import JsonObject, RowRefused
from etude_proto.v1 import Aids, Message, task_id
from etude_sampler.store.postgres.catalog import encode_aids, encode_task

TEXT = "Oslo lies in Norway. Lima lies in Peru. Rain in Oslo?"
AIDS: JsonObject = {
    "hints": {"knowledge": ["rain"], "solution": ["Oslo"]},
    "solution": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
    "documents": ["Oslo lies in Norway.", "Lima lies in Peru."],
    "demonstration": "<think> x </think>",
}


def line(aids: JsonObject | None = None, **more: JsonValue) -> JsonObject:
    """A line of the contract's own shape."""
    row: JsonObject = {
        "messages": [{"role": "user", "content": TEXT}],
        "reference": {"kind": "response"},
    }
    if aids is not None:
        row["aids"] = aids
    return row | more


def openai(aids: JsonObject) -> JsonObject:
    """The same in the OpenAI-like shape."""
    return {"messages": [{"role": "user", "content": TEXT}], "response": True, "aids": aids}


def test_both_shapes_take_aids() -> None:
    for row in (line(AIDS), openai(AIDS)):
        aids = jsonl_task(row).aids
        assert aids is not None
        assert aids.hints is not None
        assert aids.hints.tiers == (["rain"], [], ["Oslo"])
        assert isinstance(aids.solution, list)
        assert aids.documents == ["Oslo lies in Norway.", "Lima lies in Peru."]


def test_aids_are_no_part_of_the_identity_nor_of_the_body() -> None:
    plain, aided = jsonl_task(line()), jsonl_task(line(AIDS))
    assert task_id(plain) == task_id(aided)
    bodies = [encode_task(task, ordinal=3, identifier="task_x") for task in (plain, aided)]
    assert bodies[0] == bodies[1]
    assert encode_aids(plain) is None
    stored = encode_aids(aided)
    assert stored is not None
    assert Aids.model_validate_json(stored) == aided.aids


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        (["Rome lies in Italy."], "'Rome lies in Italy.' does not"),
        (["lies in"], "'lies in' does not"),
        (["Oslo lies in Norway.", "in Norway. Lima"], "must not overlap"),
        (["Oslo lies in Norway.", "Oslo lies in Norway."], "must not overlap"),
    ],
)
def test_documents_stand_once_and_apart_in_the_messages(documents: list[str], reason: str) -> None:
    for row in (line({"documents": [*documents]}), openai({"documents": [*documents]})):
        with pytest.raises(RowRefused, match=reason):
            jsonl_task(row)


def test_a_document_in_two_messages_stands_twice() -> None:
    twice: list[JsonValue] = [{"role": role, "content": TEXT} for role in ("system", "user")]
    with pytest.raises(RowRefused, match="does not"):
        jsonl_task(line({"documents": ["Lima lies in Peru."]}, messages=twice))


def test_the_openai_shape_names_the_field() -> None:
    with pytest.raises(RowRefused) as refused:
        jsonl_task(openai({"documents": ["nowhere"]}))
    assert refused.value.pointer == "/aids/documents"


def test_other_faults_have_their_pointer() -> None:
    many = [f"hint {n}" for n in range(5)]
    with pytest.raises(RowRefused) as refused:
        jsonl_task(line({"hints": {"planning": [*many]}}))
    assert refused.value.pointer == "/aids/hints/planning"


@pytest.mark.parametrize("turns", [[], [Message(role="assistant", content="a\x00b")]])
def test_a_trace_has_turns_of_text(turns: list[Message]) -> None:
    with pytest.raises(ValueError, match="no NUL"):
        Aids(solution=turns)


def test_the_example_of_the_guide_is_a_task() -> None:
    guide = (Path(__file__).parents[3] / "docs/how-to/scaffolds.md").read_text("utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    aids = jsonl_task(json.loads(block)).aids
    assert aids is not None
    assert None not in (aids.hints, aids.solution, aids.demonstration)
    assert aids.documents
