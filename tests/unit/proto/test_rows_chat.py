"""OpenAI's dialogues: gold beside them, and calls and functions as they were once written."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from etude_proto.rows.shapes import Shape, converter, recognised
from etude_proto.rows.stream import JsonObject, RowRefused
from etude_proto.v1 import CallsReference, ResponseReference, TaskCreate

ASKED: JsonObject = {"role": "user", "content": "What time is it?"}
BEGUN: JsonObject = {"role": "assistant", "content": "Let me see."}
CALLED: JsonObject = {
    "role": "assistant",
    "content": None,
    "function_call": {"name": "clock", "arguments": '{"zone": "UTC"}'},
}
FUNCTIONS: list[JsonValue] = [{"name": "clock", "description": "", "parameters": {}}]


def convert(shape: Shape, row: JsonObject) -> TaskCreate:
    return converter(shape, held_out_share=0.0)(row)


@pytest.mark.parametrize(
    ("gold", "shape"),
    [
        ({"reference": {"kind": "response"}}, Shape.TASK),
        ({"response": True}, Shape.OPENAI),
        ({"calls": [{"name": "clock", "arguments": {}}]}, Shape.OPENAI),
    ],
)
def test_a_dialogue_with_gold_beside_it_is_a_task(gold: JsonObject, shape: Shape) -> None:
    row: JsonObject = {"messages": [ASKED, BEGUN], **gold}
    assert recognised(row) is shape
    task = convert(shape, row)
    assert [one.role for one in task.messages] == ["user", "assistant"]
    kind = CallsReference if "calls" in gold else ResponseReference
    assert isinstance(task.reference, kind)
    with pytest.raises(RowRefused, match="gold stands beside the dialogue"):
        convert(Shape.CHAT, row)


def test_a_column_called_response_is_no_gold() -> None:
    assert recognised({"messages": [ASKED, BEGUN], "response": "Noon."}) is Shape.CHAT


def test_an_older_function_call_is_gold() -> None:
    row: JsonObject = {"messages": [ASKED, CALLED, BEGUN], "functions": FUNCTIONS}
    assert recognised(row) is Shape.CHAT
    task = convert(Shape.CHAT, row)
    assert isinstance(task.reference, CallsReference)
    assert [(one.name, one.parameters) for one in task.reference.calls] == [
        ("clock", {"zone": "UTC"})
    ]
    assert [tool.name for tool in task.tools] == ["clock"]
    assert len(task.messages) == 1


def test_an_older_function_call_is_refused_in_a_prompt() -> None:
    prompt: list[JsonValue] = [ASKED, CALLED, ASKED]
    with pytest.raises(RowRefused) as refused:
        convert(Shape.TRL, {"prompt": prompt})
    assert refused.value.pointer == "/prompt/1/function_call"
    offered = convert(Shape.TRL, {"prompt": "x", "functions": FUNCTIONS})
    assert [tool.name for tool in offered.tools] == ["clock"]


@pytest.mark.parametrize("called", ["clock", {"arguments": "{}"}])
def test_a_function_call_without_a_name_is_refused(called: JsonValue) -> None:
    with pytest.raises(RowRefused, match="function's name"):
        convert(Shape.CHAT, {"messages": [ASKED, {"role": "assistant", "function_call": called}]})
