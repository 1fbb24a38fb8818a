"""A task's own fields in rows of every shape: what a row says itself is kept."""

from __future__ import annotations

import pytest

from etude_proto.rows.shapes import Shape, converter, recognised
from etude_proto.rows.stream import JsonObject
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
