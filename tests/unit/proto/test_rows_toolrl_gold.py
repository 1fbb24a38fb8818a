"""Gold in ToolRL's output format: what is refused at import, and why."""

from __future__ import annotations

import pytest

from etude_proto.rows.stream import RowRefused
from etude_proto.rows.toolrl_gold import parse_gold

THOUGHT = "<think> I should use a tool. </think>\n"
CALL = '{"name": "Add", "parameters": {"a": 1}}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"<tool_call>\n{CALL}", "one <tool_call> and one </tool_call>"),
        (f"{CALL}\n</tool_call>", "one <tool_call> and one </tool_call>"),
        (f"</tool_call>{CALL}<tool_call>", "one <tool_call> and one </tool_call>"),
        (f"<tool_call>\n{CALL}\n</tool_call>\n" * 2, "one <tool_call> and one </tool_call>"),
        (f"<tool_call>\n{CALL}\n</tool_call>\n<response> Done.", "one <response>"),
        (f"<tool_call>\n{CALL}\n\n{CALL}\n</tool_call>", "as the published reward does"),
        ("<tool_call>\n</tool_call>", "without a call"),
        ("<tool_call>\n{'name': 'f'}\n</tool_call>", "gold call: not JSON"),
        ("<tool_call>\n[1]\n</tool_call>", "expected an object, found an array"),
        ('<tool_call>\n{"name": "f"}\n</tool_call>', "object `parameters`"),
        ('<tool_call>\n{"name": 1, "parameters": {}}\n</tool_call>', "string `name`"),
        ('<tool_call>\n{"name": "f", "parameters": []}\n</tool_call>', "object `parameters`"),
        ('<tool_call>\n{"name": "f", "parameters": {"a": NaN}}\n</tool_call>', "NaN"),
        ('<tool_call>\n{"name": "f", "parameters": {"a": 1, "a": 1}}\n</tool_call>', "twice"),
        ("Just words.", "no <tool_call> and no <response>"),
    ],
)
def test_gold_that_cannot_be_scored_is_refused(body: str, reason: str) -> None:
    with pytest.raises(RowRefused) as caught:
        parse_gold(THOUGHT + body)
    assert caught.value.pointer == ""
    assert reason in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        f"<think> Is it <tool_call>? </think>\n<tool_call>\n{CALL}\n</tool_call>",
        "<think> Is it <tool_call>? </think>\n<response> No. </response>",
    ],
)
def test_gold_that_names_its_tags_in_the_thought_is_refused(text: str) -> None:
    with pytest.raises(RowRefused, match=r"in its thought|as the published reward does"):
        parse_gold(text)


@pytest.mark.parametrize(
    ("text", "num_calls", "num_parameters", "has_response"),
    [
        (f"{THOUGHT}<tool_call>\n{CALL}\n{CALL}\n</tool_call>", 2, 2, False),
        (f"{THOUGHT}<tool_call>\n{CALL}\n</tool_call>\n<response> Yes. </response>", 1, 1, True),
        (f"{THOUGHT}<response> Yes. </response>", 0, 0, True),
        ("<think> Only a thought. </think>", 0, 0, False),
        (f"<tool_call>\n{CALL}\n</tool_call>", 1, 1, False),
        ('<tool_call>\n{"name": "f", "parameters": {}}\n</tool_call>', 1, 0, False),
    ],
)
def test_gold_that_can_be_scored(
    text: str, num_calls: int, num_parameters: int, has_response: bool
) -> None:
    gold = parse_gold(text)
    assert (len(gold.calls), gold.num_parameters, gold.has_response) == (
        num_calls,
        num_parameters,
        has_response,
    )
