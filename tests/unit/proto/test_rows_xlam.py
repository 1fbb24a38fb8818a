"""Rows of xLAM's shape as tasks: text or values, types, optional parameters, and refusals."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from etude_client.sources.files import file_rows
from etude_proto.rows.stream import JsonObject, Row, RowFault, RowRefused
from etude_proto.rows.xlam import xlam_task
from etude_proto.v1 import CallsReference, ResponseReference, Split

TOOLS: list[JsonObject] = [
    {
        "name": "live_giveaways",
        "description": "Retrieve live giveaways.",
        "parameters": {
            "kind": {"type": "str", "description": "What is given away.", "default": "game"},
            "limit": {"type": "int, optional", "description": "At most so many."},
            "platforms": {"type": "List[str]", "description": "Where."},
        },
    },
    {"name": "now", "description": "The time.", "parameters": {}},
]
ANSWERS: list[JsonObject] = [
    {"name": "live_giveaways", "arguments": {"kind": "beta", "platforms": ["pc"]}},
    {"name": "now", "arguments": {}},
]


def _row(**change: object) -> JsonObject:
    row = {"id": 7, "query": "Which?", "tools": TOOLS, "answers": ANSWERS, **change}
    return json.loads(json.dumps(row))  # type: ignore[no-any-return]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_row_is_a_task(as_text: bool) -> None:
    change = {"tools": json.dumps(TOOLS), "answers": json.dumps(ANSWERS)} if as_text else {}
    task = xlam_task(_row(**change), held_out_share=0.0)
    assert [(one.role, one.content) for one in task.messages] == [("user", "Which?")]
    assert isinstance(task.reference, CallsReference)
    assert [call.name for call in task.reference.calls] == ["live_giveaways", "now"]
    assert task.reference.calls[0].parameters == {"kind": "beta", "platforms": ["pc"]}
    schema = task.tools[0].parameters
    assert schema["required"] == ["platforms"]
    assert schema["properties"] == {
        "kind": {"type": "string", "description": "What is given away.", "default": "game"},
        "limit": {"type": "integer", "description": "At most so many."},
        "platforms": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Where.",
        },
    }
    assert "required" not in task.tools[1].parameters
    assert (task.source, task.metadata["id"], task.split) == ("xlam", 7, Split.TRAIN)
    assert task.subtasks == ["format", "tool_name", "param_name", "param_value"]


def test_no_answer_means_that_no_tool_fits() -> None:
    assert isinstance(xlam_task(_row(answers="[]")).reference, ResponseReference)


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"query": None}, "/query", "expected text"),
        ({"tools": "[{"}, "/tools", ""),
        ({"tools": {"name": "now"}}, "/tools", "expected an array"),
        ({"tools": ["now"]}, "/tools/0", "a tool with a name"),
        ({"answers": [{"arguments": {}}]}, "/answers/0", "a call with a name"),
        ({"answers": [{"name": "other", "arguments": {}}]}, "/answers/0", "not among the tools"),
        ({"answers": [{"name": "now", "arguments": [1]}]}, "/answers/0", ""),
    ],
)
def test_rows_that_are_refused(change: dict[str, object], pointer: str, words: str) -> None:
    with pytest.raises(RowRefused) as refused:
        xlam_task(_row(**change))
    assert refused.value.pointer.startswith(pointer)
    assert words in refused.value.detail


def test_a_bad_row_costs_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [_row(), _row(query=""), _row(query="Again?")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = list(file_rows(file, partial(xlam_task, held_out_share=0.0)))
    assert [type(one) for one in made] == [Row, RowFault, Row]


def test_arguments_given_as_text_are_masked_too() -> None:
    answers = [{**one, "arguments": json.dumps(one["arguments"])} for one in ANSWERS]
    masked = xlam_task(_row(answers=answers), held_out_share=0.0, mask=True)
    assert masked == xlam_task(_row(), held_out_share=0.0, mask=True)
    with pytest.raises(RowRefused, match="not JSON"):
        xlam_task(_row(answers=[{"name": "now", "arguments": "{"}]), mask=True)


SCHEMA: JsonObject = {"type": "dict", "properties": {"a": {"type": "int"}}}


@pytest.mark.parametrize("described", [json.dumps(SCHEMA), '{"a": {"type": "int"}}'])
def test_parameters_may_be_text(described: str) -> None:
    tools = [{"name": "now", "parameters": described}]
    task = xlam_task(_row(tools=tools, answers=[{"name": "now", "arguments": {"a": 1}}]))
    assert task.tools[0].parameters["properties"] == {"a": {"type": "integer"}}


@pytest.mark.parametrize("described", ["{", "none", [{"name": "a"}], 3])
def test_parameters_of_another_kind_are_refused(described: object) -> None:
    with pytest.raises(RowRefused) as refused:
        xlam_task(_row(tools=[{"name": "now", "parameters": described}], answers=[]))
    assert refused.value.pointer == "/tools/0"
    assert "parameters" in refused.value.detail


def test_a_parameter_may_be_called_properties() -> None:
    named: JsonObject = {"properties": {"type": "str"}, "type": {"type": "int"}}
    task = xlam_task(_row(tools=[{"name": "now", "parameters": named}], answers=[]))
    assert task.tools[0].parameters["properties"] == {
        "properties": {"type": "string"},
        "type": {"type": "integer"},
    }
