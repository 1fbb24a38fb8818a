"""A task's own fields in rows of every shape: what a row says itself is kept."""

from __future__ import annotations

import json

import pytest

from etude_proto.rows.shapes import Shape, converter, recognised
from etude_proto.rows.stream import JsonObject, RowRefused
from etude_proto.v1 import CallsReference, ResponseReference, Split, TaskCreate
from support.shaped_rows import ROWS


def convert(shape: Shape, row: JsonObject) -> TaskCreate:
    return converter(shape, held_out_share=0.0)(row)


@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("shape", [shape for shape in ROWS if shape is not Shape.BFCL])
def test_a_row_keeps_its_split_and_its_subtasks(shape: Shape, split: Split) -> None:
    task = convert(shape, {**ROWS[shape], "split": split.value, "subtasks": ["format", "mine"]})
    assert (task.split, task.subtasks) == (split, ["format", "mine"])


def test_a_prompt_keeps_every_field_of_a_task() -> None:
    row: JsonObject = {
        "prompt": "1 + 1?",
        "subtasks": '["sum"]',
        "source": "sums",
        "split": "held_out",
        "metadata": {"level": 3},
        "aids": {"demonstration": "2"},
    }
    task = convert(recognised(row), {**row, "calls": [{"name": "add", "arguments": {"a": 1}}]})
    assert isinstance(task.reference, CallsReference)
    assert (task.subtasks, task.source, task.split) == (["sum"], "sums", Split.HELD_OUT)
    assert (task.metadata, task.aids is not None) == ({"level": 3}, True)
    told = convert(Shape.TRL, {"prompt": "1?", "reference": {"kind": "response"}})
    assert isinstance(told.reference, ResponseReference)
    assert isinstance(
        convert(Shape.TRL, {"prompt": "1?", "response": True}).reference, ResponseReference
    )
    verl = convert(Shape.VERL, {**ROWS[Shape.VERL], "metadata": {"level": 3}})
    assert (verl.metadata["level"], verl.metadata["answer"]) == (3, "2")


def test_a_users_column_of_the_same_name_is_no_field() -> None:
    row: JsonObject = {"prompt": "1?", "response": "One.", "reference": "1", "metadata": "x"}
    assert convert(Shape.TRL, {**row, "source": "", "split": "odd", "calls": 3}) == convert(
        Shape.TRL, {"prompt": "1?"}
    )


@pytest.mark.parametrize("shape", [Shape.VERL, Shape.RLLA])
def test_verls_columns_may_be_text(shape: Shape) -> None:
    row = ROWS[shape]
    text = {**row, **{key: json.dumps(row[key]) for key in ("reward_model", "extra_info")}}
    assert recognised(text) is shape
    assert convert(shape, text) == convert(shape, row)
    held = convert(shape, {**row, "extra_info": '{"split": "held_out"}'})
    assert held.split is Split.HELD_OUT


def test_an_indented_dialogue_is_a_dialogue() -> None:
    turns = [{"role": "user", "content": "1?"}]
    task = convert(Shape.TRL, {"prompt": json.dumps(turns, indent=1)})
    assert task == convert(Shape.TRL, {"prompt": "1?"})


def test_a_row_nested_too_deeply_costs_only_itself() -> None:
    kind = "List[" * 3000 + "int" + "]" * 3000
    tools: JsonObject = {"name": "f", "parameters": {"a": {"type": kind}}}
    with pytest.raises(RowRefused, match="nested too deeply"):
        convert(Shape.XLAM, {"query": "x", "tools": [tools], "answers": []})
