"""Reading a turn: calls by the family's form, and what is told of those that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_rollout.tools.base import ToolCall
from etude_rollout.turns.calls import BadCall, detect_format, read_turn
from etude_rollout.turns.options import CallFormat

FORMS: tuple[CallFormat, ...] = ("toolrl", "hermes", "llama3")
ADD = ToolCall("add", {"a": 1})
THOUGHT = "<think> so </think>\n"
GOOD: list[tuple[CallFormat, str, tuple[ToolCall, ...]]] = [
    (
        "toolrl",
        THOUGHT + '<tool_call>\n{"name": "add", "parameters": {"a": 1}}\n</tool_call>',
        (ADD,),
    ),
    (
        "toolrl",
        THOUGHT
        + '<tool_call>\n{"name": "add", "parameters": {"a": 1}}\n'
        + '{"name": "add", "parameters": {}}\n</tool_call>',
        (ADD, ToolCall("add", {})),
    ),
    ("hermes", 'ok\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', (ADD,)),
    (
        "hermes",
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>',
        (ADD, ToolCall("add", {})),
    ),
    ("llama3", '{"name": "add", "parameters": {"a": 1}}', (ADD,)),
    ("llama3", '<|python_tag|>{"name": "add", "parameters": {"a": 1}}', (ADD,)),
    (
        "llama3",
        '{"name": "add", "parameters": {"a": 1}}; {"name": "add", "parameters": {}}',
        (ADD, ToolCall("add", {})),
    ),
    ("llama3", '[{"name": "add", "parameters": {"a": 1}}]', (ADD,)),
]


@pytest.mark.parametrize(("form", "text", "calls"), GOOD)
def test_calls_are_read(form: CallFormat, text: str, calls: tuple[ToolCall, ...]) -> None:
    turn = read_turn(text, form)
    assert turn.calls == calls
    assert turn.is_well_formed


BAD: list[tuple[CallFormat, str, str]] = [
    ("toolrl", "<tool_call>", "without"),
    ("toolrl", "<tool_call>\n\n</tool_call>", "empty"),
    ("toolrl", "<tool_call>\nadd(1)\n</tool_call>", "cannot be read"),
    ("toolrl", '<tool_call>{"name": "add", "arguments": {}}</tool_call>', "'parameters'"),
    ("toolrl", '<tool_call>{"parameters": {}}</tool_call>', "'name'"),
    ("toolrl", '<tool_call>{"name": "a", "name": "b", "parameters": {}}</tool_call>', "duplicate"),
    ("toolrl", '<tool_call>{"name": "a", "parameters": {"x": NaN}}</tool_call>', "NaN"),
    ("hermes", '<tool_call>{"name": "add", "parameters": {}}</tool_call>', "'arguments'"),
    ("hermes", '<tool_call>{"name": "add", "arguments": "{}"}</tool_call>', "'arguments'"),
    ("hermes", "<tool_call>[1]</tool_call>", "object"),
    ("llama3", '{"name": "add"', "not JSON"),
    ("llama3", '{"name": "add"} and so on', "not JSON"),
    ("llama3", '{"answer": 1}', "'name'"),
    ("toolrl", "<tool_call>" + "[" * 100_000 + "</tool_call>", "cannot be read"),
    ("llama3", "{" * 100_000, "not JSON"),
    ("hermes", '<tool_call>{"name": "a", "arguments": {}}</tool_call>' * 65, "more than 64"),
]


@pytest.mark.parametrize(("form", "text", "detail"), BAD)
def test_what_is_no_call_is_told(form: CallFormat, text: str, detail: str) -> None:
    turn = read_turn(text, form)
    (call,) = turn.calls
    assert isinstance(call, BadCall)
    assert detail in call.detail
    assert not turn.is_well_formed


def test_a_call_named_in_the_thought_is_none() -> None:
    text = "<think> <tool_call>{}</tool_call> </think>\n<response> 7 </response>"
    turn = read_turn(text, "toolrl")
    assert turn.calls == ()
    assert turn.answer == "7"
    assert turn.is_well_formed


@pytest.mark.parametrize(
    ("form", "text", "answer", "is_well_formed"),
    [
        ("toolrl", THOUGHT + "<response> it is 7 </response>", "it is 7", True),
        ("toolrl", "<response> 7 </response>", "7", False),
        ("toolrl", "it is 7", "it is 7", False),
        ("toolrl", THOUGHT, "", False),
        ("hermes", "<think>a</think>\n\n7", "7", True),
        ("hermes", " ", "", False),
        ("llama3", "7", "7", True),
    ],
)
def test_answers(form: CallFormat, text: str, answer: str, *, is_well_formed: bool) -> None:
    turn = read_turn(text, form)
    assert (turn.calls, turn.answer, turn.is_well_formed) == ((), answer, is_well_formed)


@given(
    text=st.text(alphabet='<>/{}[]":,toolcnamepr_ \n1e', max_size=200), form=st.sampled_from(FORMS)
)
def test_nothing_that_a_policy_writes_raises(text: str, form: CallFormat) -> None:
    read_turn(text, form)
    read_turn(f"<tool_call>{text}</tool_call>", form)
    read_turn("{" + text, form)


@pytest.mark.parametrize(
    ("template", "explains", "form"),
    [
        ('<tool_call>\n{"name": ..., "arguments": ...}', False, "hermes"),
        ("<|python_tag|>", False, "llama3"),
        ("<tool_call> arguments", True, "toolrl"),
        ("plain", False, "toolrl"),
        (None, False, "toolrl"),
    ],
)
def test_the_form_is_told_by_prompt_and_template(
    template: str | None, form: str, *, explains: bool
) -> None:
    assert detect_format(template, explains_format=explains) == form
