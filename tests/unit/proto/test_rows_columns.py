"""Columns of one's own: a mapping gives the task that it says, and faults name row and column."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_proto.rows.columns import FIELDS, Column, Mapped, parse_columns
from etude_proto.rows.shapes import Shape, converter
from etude_proto.rows.stream import DatasetUnusable, JsonObject, RowRefused
from etude_proto.v1 import CallsReference, Split, TaskCreate, ToolRLReference
from support.shaped_rows import GOLD, XLAM

ROW: JsonObject = {
    "question": "1 + 1?",
    "final": 2,
    "origin": "sums",
    "extra": {"level": "easy", "side": "validation"},
    "gold": [{"name": "add", "arguments": '{"a": 1}'}],
    "functions": json.dumps([{"name": "add", "parameters": {}}]),
    "toolrl": GOLD,
}
WORDS = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=12)


def mapped(**columns: Column) -> TaskCreate:
    return Mapped(columns).task(ROW, held_out_share=0.0)


def test_a_mapping_says_what_is_what() -> None:
    task = mapped(
        prompt="question",
        system=lambda row: f"Level {row['extra']['level']}.",  # type: ignore[index,call-overload]
        answer="final",
        source="origin",
        split="extra.side",
        subtasks=["right", "short"],
        metadata=["extra.level", "final"],
        tools="functions",
        calls="gold",
    )
    assert [(one.role, one.content) for one in task.messages] == [
        ("system", "Level easy."),
        ("user", "1 + 1?"),
    ]
    assert task.metadata == {"extra.level": "easy", "final": 2, "answer": 2}
    assert (task.source, task.split, task.subtasks) == ("sums", Split.HELD_OUT, ["right", "short"])
    assert isinstance(task.reference, CallsReference)
    assert task.reference.calls[0].parameters == {"a": 1}
    assert [tool.name for tool in task.tools] == ["add"]
    assert mapped(prompt="question", subtasks=lambda _: "right").subtasks == ["right"]
    toolrl = mapped(prompt="question", reference="toolrl")
    assert isinstance(toolrl.reference, ToolRLReference)
    assert toolrl.subtasks == ["format", "tool_name", "param_name", "param_value"]


@settings(max_examples=50)
@given(st.dictionaries(WORDS, WORDS, min_size=3, max_size=5), st.data())
def test_any_names_of_columns(row: dict[str, str], data: st.DataObject) -> None:
    """Whatever columns are called, the task holds what they hold, and renaming changes nothing."""
    prompt, answer = data.draw(st.permutations(list(row)))[:2]
    if not row[prompt].strip():
        return
    cells: JsonObject = dict(row)
    task = Mapped({"prompt": prompt, "answer": answer}).task(cells, held_out_share=0.0)
    assert task.messages[0].content == row[prompt]
    assert task.metadata == {"answer": row[answer]}
    renamed: JsonObject = {"q": row[prompt], "a": row[answer]}
    assert Mapped({"prompt": "q", "answer": "a"}).task(renamed, held_out_share=0.0) == task


def test_a_mapping_on_top_of_a_shape() -> None:
    plain = converter(Shape.XLAM, held_out_share=0.0)(XLAM)
    on_top = Mapped({"subtasks": ["reward"], "source": lambda _: "mine", "metadata": ["id"]})
    task = converter(Shape.XLAM, held_out_share=0.0, columns=on_top)({**XLAM, "origin": "x"})
    assert (task.subtasks, task.source) == (["reward"], "mine")
    assert (task.messages, task.reference) == (plain.messages, plain.reference)
    bad = converter(Shape.XLAM, columns=Mapped({"subtasks": ["Not A Name"]}))
    with pytest.raises(RowRefused, match="should match"):
        bad(XLAM)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "columns is empty"),
        ({"promt": "question"}, "no 'promt'; did you mean 'prompt'"),
        ({"prompt": "a", "messages": "b"}, "not both"),
        ({"prompt": "a", "reference": "b", "calls": "c"}, "give `reference`, or"),
        ({"tools": "functions"}, "'tools' needs `prompt` too"),
    ],
)
def test_mappings_that_make_no_sense(columns: dict[str, Column], words: str) -> None:
    with pytest.raises(DatasetUnusable, match=words):
        Mapped(columns)


@pytest.mark.parametrize(
    ("columns", "pointer", "words"),
    [
        ({"prompt": "final"}, "/final", "a text or a list of messages"),
        ({"prompt": "question", "system": "final"}, "/final", "expected text, found a number"),
        ({"prompt": "question", "split": "extra.level"}, "/extra/level", "'easy' is no split"),
        ({"prompt": "question", "metadata": "final"}, "/final", "expected an object"),
        ({"prompt": "question", "calls": "extra"}, "/extra", ""),
        ({"prompt": "question", "tools": "origin"}, "/origin", ""),
        ({"prompt": "question", "subtasks": "question"}, "/question", "match"),
        ({"prompt": "question", "source": lambda _: "?"}, "", "source: "),
        ({"prompt": lambda row: row["nothing"]}, "", "columns['prompt'] failed: KeyError"),
        ({"prompt": "question", "answer": lambda _: object()}, "", "not JSON"),
    ],
)
def test_rows_that_a_mapping_refuses(columns: dict[str, Column], pointer: str, words: str) -> None:
    with pytest.raises(RowRefused) as refused:
        Mapped(columns).task(ROW)
    assert refused.value.pointer == pointer
    assert words in refused.value.detail


def test_a_column_that_is_not_there() -> None:
    words = "no column 'qestion'; the row has 'question', .* did you mean 'question'"
    with pytest.raises(DatasetUnusable, match=words):
        Mapped({"prompt": "qestion"}).check(ROW)
    with pytest.raises(RowRefused) as refused:
        Mapped({"prompt": "question", "answer": "size.of"}).task(ROW)
    assert refused.value.detail.startswith("no column 'size.of'")


@pytest.mark.parametrize("extra", [None, {}, {"note": None}])
def test_a_nested_column_may_be_null(extra: JsonObject | None) -> None:
    mapped = Mapped({"prompt": "question", "answer": "extra.note"})
    row: JsonObject = {"question": "?", "extra": extra}
    mapped.check(row)
    assert "answer" not in mapped.task(row).metadata


def test_wrapped_tools_beside_a_reference() -> None:
    tool = {"name": "add", "description": "", "parameters": {}}
    row: JsonObject = {
        "question": "?",
        "tools": json.dumps([{"type": "function", "function": {**tool, "strict": True}}]),
        "gold": {"kind": "calls", "calls": [{"name": "add", "parameters": {}}]},
    }
    mapped = Mapped({"prompt": "question", "tools": "tools", "reference": "gold"})
    assert [one.name for one in mapped.task(row).tools] == ["add"]


def test_a_mapping_on_a_command_line() -> None:
    columns = parse_columns('prompt=question, answer=extra.level,subtasks=["a","b"],source="x, y"')
    constant = columns.pop("source")
    assert callable(constant)
    assert constant({}) == "x, y"
    assert columns == {"prompt": "question", "answer": "extra.level", "subtasks": ["a", "b"]}
    assert parse_columns("response=true") == {"response": True}
    for text in ("prompt", "prompt=", "=x", "prompt=a,prompt=b", "subtasks=[a]", ""):
        with pytest.raises(DatasetUnusable, match="columns: "):
            parse_columns(text)


def test_every_field_is_described_in_the_guide() -> None:
    assert set(FIELDS) >= {name for name in TaskCreate.model_fields if name != "messages"}
