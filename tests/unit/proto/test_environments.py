"""Environments of tasks: kinds and configurations are checked, gold is read and never run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etude_proto.v1 import PluginEnvironment, TaskCreate, task_id
from etude_proto.v1.environments import MAX_CALL_CHARS, gold_call

MESSAGE = {"role": "user", "content": "x"}
ANSWER = {"kind": "episode", "answers": ["1"]}
FILES = {"kind": "bfcl_multi_turn", "config": {"classes": ["MathAPI"]}}
TURN = {"kind": "bfcl_turns", "turns": [["add(a=1, b=2)"]]}


def task(environment: object, reference: object = None) -> TaskCreate:
    body = {"messages": [MESSAGE], "environment": environment, "reference": reference}
    return TaskCreate.model_validate(body)


@pytest.mark.parametrize(
    ("environment", "reference"),
    [
        ({"kind": "calculator"}, ANSWER),
        ({"kind": "calculator"}, None),
        ({"kind": "http", "config": {"server": "web"}}, ANSWER),
        (
            {"kind": "mcp", "config": {"server": "web-2"}},
            {"kind": "episode", "calls": [{"name": "f"}]},
        ),
        ({"kind": "x_mine", "config": {"deep": {"er": [1]}}}, ANSWER),
        (FILES, TURN),
        (FILES, ANSWER),
        (None, None),
    ],
)
def test_good_ones(environment: object, reference: object) -> None:
    good = task(environment, reference)
    assert TaskCreate.model_validate_json(good.model_dump_json()) == good


@pytest.mark.parametrize(
    ("environment", "reference", "fault"),
    [
        ({"kind": "shell"}, ANSWER, "kind must be one of"),
        ({}, ANSWER, "kind must be one of"),
        ("calculator", ANSWER, "kind must be one of"),
        ({"kind": "calculator", "config": {"digits": 3}}, ANSWER, "Extra inputs"),
        ({"kind": "http", "config": {"server": "http://10.0.0.1"}}, ANSWER, "pattern"),
        ({"kind": "mcp", "config": {"command": "sh"}}, ANSWER, "Field required"),
        ({"kind": "x_", "config": {}}, ANSWER, "pattern"),
        ({"kind": "bfcl_multi_turn", "config": {"classes": ["os"]}}, TURN, "Input should be"),
        ({"kind": "bfcl_multi_turn", "config": {"classes": []}}, TURN, "at least 1"),
        ({"kind": "calculator"}, {"kind": "episode"}, "needs answers or calls"),
        ({"kind": "calculator"}, {"kind": "response"}, "judged by"),
        ({"kind": "calculator"}, TURN, "needs 'bfcl_multi_turn'"),
        (None, ANSWER, "needs an environment"),
        (FILES, {**TURN, "turns": [["add()"], []]}, "2 turns, the user 1"),
        (FILES, {**TURN, "turns": [["add"]]}, "not a call"),
    ],
)
def test_bad_ones(environment: object, reference: object, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        task(environment, reference)


def test_an_environment_is_part_of_what_a_task_is() -> None:
    """Tasks without one keep the ids that they always had."""
    plain = task(None)
    assert task_id(plain) == "task_7eaa445d40dcc7d1b551111f"
    kinds = [None, {"kind": "calculator"}, {"kind": "x_a"}, {"kind": "x_a", "config": {"b": 1}}]
    assert len({task_id(task(kind)) for kind in kinds}) == len(kinds)
    assert isinstance(task(kinds[2]).environment, PluginEnvironment)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("cd(folder='a')", ("cd", [], {"folder": "a"})),
        (" sort('f.pdf') ", ("sort", ["f.pdf"], {})),
        ("f(1, x=[-1, {'a': None}])", ("f", [1], {"x": [-1, {"a": None}]})),
    ],
)
def test_gold_calls_are_read(text: str, read: tuple[str, list[object], dict[str, object]]) -> None:
    assert gold_call(text) == read


@pytest.mark.parametrize(
    "text",
    [
        *("", "f", "a.f()", "f(g())", "f(**x)", "f(x=y)", "f(1); g(2)", "f(" * 500, "lambda: 1"),
        *("f(" + "-" * 5000 + "1)", "f(x='" + "a" * MAX_CALL_CHARS + "')", "__import__('os').f()"),
    ],
)
def test_what_is_no_plain_call_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="call"):
        gold_call(text)


@given(st.text(alphabet="f(x=1,'[]{}-) \n\"\\", max_size=80))
def test_nothing_but_a_value_error_is_raised(text: str) -> None:
    try:
        name, _, _ = gold_call(text)
    except ValueError:
        return
    assert name.isidentifier()
