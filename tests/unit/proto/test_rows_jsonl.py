"""Our own file format in both shapes, its JSON Schema, and lines that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from etude_client.sources.files import file_rows
from etude_proto.rows.jsonl import jsonl_task
from etude_proto.rows.stream import JsonObject, Row, RowFault, RowRefused
from etude_proto.v1 import (
    Call,
    CallsReference,
    ResponseReference,
    Split,
    TaskCreate,
    task_id,
)
from etude_sampler.datasets.task_schema import line_schema, schema_text

REPOSITORY = Path(__file__).parents[3]
ALL = ["format", "tool_name", "param_name", "param_value"]

SCHEMA: JsonObject = {"type": "object", "properties": {"x": {"type": "number"}}}
MESSAGES: list[JsonObject] = [{"role": "user", "content": "Double 2."}]

CONTRACT: JsonObject = {
    "messages": [*MESSAGES],
    "tools": [{"name": "double", "description": "Doubles.", "parameters": SCHEMA}],
    "reference": {"kind": "calls", "calls": [{"name": "double", "parameters": {"x": 2}}]},
}
OPENAI: JsonObject = {
    "messages": [*MESSAGES],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "double",
                "description": "Doubles.",
                "parameters": SCHEMA,
                "strict": True,
            },
        }
    ],
    "calls": [{"name": "double", "arguments": '{"x": 2}'}],
}
GOOD: list[JsonObject] = [
    CONTRACT,
    OPENAI,
    {**OPENAI, "calls": [{"name": "double", "arguments": {"x": 2}}]},
    {**OPENAI, "calls": [{"name": "double", "parameters": {"x": 2}}]},
    {
        **OPENAI,
        "calls": [
            {"id": "1", "type": "function", "function": {"name": "double", "arguments": '{"x": 2}'}}
        ],
    },
    {**CONTRACT, "reference": {"kind": "response"}},
    {"messages": [*MESSAGES], "response": True},
    {"messages": [*MESSAGES], "reference": None, "subtasks": ["planning"]},
    {**CONTRACT, "reference": {"kind": "bfcl", "calls": [{"double": {"x": [2, 2.0]}}]}},
    {**CONTRACT, "split": "held_out", "source": "mine/1", "metadata": {"n": [1, None]}},
]
REFUSED: list[tuple[JsonObject, str, str]] = [
    ({}, "/messages", "Field required"),
    ({**CONTRACT, "messages": []}, "/messages", "at least 1"),
    ({**CONTRACT, "messages": "Hello"}, "/messages", "valid array"),
    ({**CONTRACT, "mesages": []}, "/mesages", "unknown field"),
    ({**CONTRACT, "messages": [{"role": "user", "content": 3}]}, "/messages/0/content", "string"),
    (
        {**CONTRACT, "messages": [{"role": "user", "content": "", "x/y": 1}]},
        "/messages/0/x~1y",
        "unknown",
    ),
    ({**CONTRACT, "subtasks": ["format", "uniform"]}, "/subtasks/1", "'uniform' is reserved"),
    ({**OPENAI, "subtasks": ["probe"]}, "/subtasks/0", "'probe' is reserved"),
    ({**CONTRACT, "tools": [{"name": ""}]}, "/tools/0/name", "at least 1"),
    ({**CONTRACT, "reference": {"kind": "calls", "calls": []}}, "/reference/calls", "at least 1"),
    ({**CONTRACT, "reference": {"kind": "guess"}}, "/reference", "kind"),
    (
        {**CONTRACT, "reference": {"kind": "calls", "calls": [{"name": "double"}], "response": 1}},
        "/reference/response",
        "valid boolean",
    ),
    (
        {**CONTRACT, "reference": {"kind": "toolrl", "text": "<tool_call>"}},
        "/reference/text",
        "gold needs one",
    ),
    (
        {**CONTRACT, "reference": {"kind": "bfcl", "calls": [{"f": {}, "g": {}}]}},
        "/reference/calls/0",
        "exactly one function",
    ),
    ({**CONTRACT, "subtasks": ["Planning"]}, "/subtasks/0", "pattern"),
    ({**CONTRACT, "subtasks": ["a", "a"]}, "/subtasks", "twice"),
    ({**CONTRACT, "split": "test"}, "/split", "'train' or 'held_out'"),
    ({**CONTRACT, "source": "?"}, "/source", "pattern"),
    ({**CONTRACT, "metadata": []}, "/metadata", "should be an object"),
    ({**OPENAI, "calls": []}, "/calls", "nothing to score"),
    ({**OPENAI, "calls": None, "response": False}, "/calls", "nothing to score"),
    ({**OPENAI, "response": "yes"}, "/response", "valid boolean"),
    ({**OPENAI, "calls": [{"name": "triple"}]}, "/calls/0", "not among the tools"),
    ({**OPENAI, "calls": [{"name": "double", "arguments": "{"}]}, "/calls/0/arguments", "not JSON"),
    (
        {**OPENAI, "calls": [{"name": "double", "arguments": "[]"}]},
        "/calls/0/arguments",
        "expected an object",
    ),
    (
        {**OPENAI, "calls": [{"name": "double", "arguments": '{"x": 1, "x": 2}'}]},
        "/calls/0/arguments",
        "twice",
    ),
    (
        {**OPENAI, "calls": [{"name": "double", "arguments": {}, "parameters": {}}]},
        "/calls/0",
        "not both",
    ),
    (
        {**OPENAI, "calls": [{"function": {"arguments": "{}"}}]},
        "/calls/0/function/name",
        "Field required",
    ),
    ({**OPENAI, "reference": None}, "/reference", "unknown field"),
    (
        {
            **OPENAI,
            "messages": [{"role": "assistant", "content": "", "tool_calls": []}],
        },
        "/messages/0/tool_calls",
        "unknown field",
    ),
    (
        {
            **CONTRACT,
            "reference": {"kind": "calls", "calls": [{"name": "double"}, {"name": "triple"}]},
        },
        "/reference/calls/1",
        "not among the tools",
    ),
]
ONLY_THE_IMPORTER = ("gold needs", "exactly one", "twice", "nothing to", "not among", "not JSON")
"""Reasons that no JSON Schema can express; the others, the schema refuses too."""
ONLY_THE_IMPORTER_TOO = ("expected an object", "not both")


def test_both_shapes_of_the_same_content_are_one_task() -> None:
    tasks = [jsonl_task(row, held_out_share=0.0) for row in GOOD[:5]]
    assert len({task_id(task) for task in tasks}) == 1
    assert tasks[0] == tasks[1] == tasks[4]
    assert tasks[0].subtasks == ALL
    assert tasks[0].reference == CallsReference(calls=[Call(name="double", parameters={"x": 2})])


def test_response_with_and_without_calls() -> None:
    task = jsonl_task({**OPENAI, "response": True})
    assert isinstance(task.reference, CallsReference)
    assert task.reference.response
    task = jsonl_task({**OPENAI, "calls": None, "response": True})
    assert task.reference == ResponseReference()
    assert task.subtasks == ["format"]


def test_lines_without_gold_keep_their_subtasks() -> None:
    row: JsonObject = {**OPENAI, "subtasks": ["planning"]}
    del row["calls"]
    task = jsonl_task(row)
    assert (task.reference, task.subtasks) == (None, ["planning"])
    assert jsonl_task({"messages": [*MESSAGES]}).subtasks == []


def test_named_subtasks_win_over_derived_ones() -> None:
    assert jsonl_task({**CONTRACT, "subtasks": ["arithmetic"]}).subtasks == ["arithmetic"]


@pytest.mark.parametrize("row", [CONTRACT, OPENAI])
def test_a_named_split_wins_over_the_share(row: JsonObject) -> None:
    for split in Split:
        for share in (0.0, 1.0):
            assert jsonl_task({**row, "split": split}, held_out_share=share).split is split
    assert jsonl_task(row, held_out_share=1.0).split is Split.HELD_OUT
    assert jsonl_task(row, held_out_share=0.0).split is Split.TRAIN


def test_null_arguments_stay() -> None:
    """An argument that is null is not an argument that is absent."""
    row: JsonObject = {**OPENAI, "calls": [{"name": "double", "arguments": '{"x": null}'}]}
    task = jsonl_task(row)
    assert isinstance(task.reference, CallsReference)
    assert task.reference.calls[0].parameters == {"x": None}
    assert TaskCreate.model_validate_json(task.model_dump_json()) == task


@pytest.mark.parametrize(("row", "pointer", "reason"), REFUSED)
def test_bad_lines_are_told(row: JsonObject, pointer: str, reason: str) -> None:
    with pytest.raises(RowRefused) as caught:
        jsonl_task(row)
    assert caught.value.pointer == pointer
    assert reason in caught.value.detail


def test_several_faults_are_counted() -> None:
    with pytest.raises(RowRefused) as caught:
        jsonl_task({**CONTRACT, "source": "", "split": 3, "extra": 1})
    assert caught.value.detail.endswith("(and 2 more)")


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(RowRefused) as caught:
        jsonl_task({**OPENAI, "calls": [{"name": "x" * 2000}]})
    assert len(caught.value.detail) == 500


def test_good_and_bad_lines_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    lines = [json.dumps(row) for row in GOOD]
    lines[2:2] = ["", "{broken", json.dumps({**OPENAI, "calls": 3})]
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = list(file_rows(path, jsonl_task))
    assert [row.line for row in rows if isinstance(row, RowFault)] == [4, 5]
    assert [row.line for row in rows if isinstance(row, Row)] == [1, 2, *range(6, 14)]
    again = list(file_rows(path, jsonl_task))
    assert again == rows


def test_the_committed_schema_is_the_generated_one() -> None:
    """Rewrite it with `python -m etude_sampler.datasets.task_schema`."""
    committed = REPOSITORY / "docs" / "reference" / "task.schema.json"
    assert committed.read_text(encoding="utf-8") == schema_text()


def test_the_schema_agrees_with_the_importer() -> None:
    schema = line_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for row in GOOD:
        jsonl_task(row)
        assert validator.is_valid(row), row
    for row, _, reason in REFUSED:
        is_beyond_schemas = any(
            words in reason for words in (*ONLY_THE_IMPORTER, *ONLY_THE_IMPORTER_TOO)
        )
        assert validator.is_valid(row) == is_beyond_schemas, row


def test_the_examples_of_the_guide_are_tasks() -> None:
    """Every `json` block of the guide, but the report's, is one line that can be imported."""
    guide = (REPOSITORY / "docs" / "how-to" / "import.md").read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in guide.split("```json\n")[1:]]
    assert len(blocks) >= 3
    for block in blocks:
        row = json.loads(block)
        if str(row.get("schema", "")).startswith("etude-import-report"):
            continue
        assert Draft202012Validator(line_schema()).is_valid(row)
        assert jsonl_task(row).messages
