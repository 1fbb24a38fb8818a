"""Mode ``robust``: what it changes against ``parity`` (algorithms.md 2.6), and what it refuses."""

from __future__ import annotations

import json

import pytest

from etude_rollout.rewards import Mode, RewardConfig, Scored, gold_from_task, score_completion
from support.shared_data import SHARED_DATA

CASES = json.loads((SHARED_DATA / "toolrl_reward_cases.json").read_text())["cases"]


def text(*calls: object, think: str = "x") -> str:
    lines = "\n".join(call if isinstance(call, str) else json.dumps(call) for call in calls)
    return f"<think>{think}</think>\n<tool_call>\n{lines}\n</tool_call>"


def call(name: str, **parameters: object) -> dict[str, object]:
    return {"name": name, "parameters": parameters}


def score(completion: str, gold: str, mode: Mode = "robust", *switches: str) -> Scored:
    config = RewardConfig(mode=mode, switches=switches)
    reference = gold_from_task({"kind": "toolrl", "text": gold}, mode=mode)
    return score_completion(completion, reference, config=config)


ONE = call("f", a="1")
GOLD = text(ONE)
RESPONSE = "<think>x</think>\n<response>hello</response>"
CASE_23 = next(case for case in CASES if case["id"] == 23)
CHANGED = {
    "tag named in thought": (text(ONE, think="a <tool_call> b"), GOLD, -3, 4),
    "one of two": (text(call("f", a=2)), text(call("f", a=1), call("f", a=2)), -0.2, 1),
    "order-dependent pair": (CASE_23["response"], CASE_23["ground_truth"], 1.8333, 2.5),
    "true for 1": (text(call("f", a=True)), text(call("f", a=1)), 4, 2),
    "blank line": (text(ONE, "", call("g")), text(ONE, call("g")), -2, 4),
    "second thought end": (
        GOLD + "</think>\n<response>hello</response>",
        RESPONSE,
        1,
        0,
    ),
    "duplicate key": (text('{"name": "f", "parameters": {"a": "2", "a": "1"}}'), GOLD, 4, -2),
    "nameless, unused": (text(ONE, {"name": "g"}), GOLD, 3, -2),
}


@pytest.mark.parametrize("name", CHANGED)
def test_examples_of_the_change(name: str) -> None:
    completion, gold, parity, robust = CHANGED[name]
    assert score(completion, gold, "parity").total == pytest.approx(parity, abs=5e-5)
    assert score(completion, gold).total == pytest.approx(robust, abs=5e-5)


UNCHANGED = {
    "exact": (GOLD, GOLD, 4),
    "1.0 for 1": (text(call("f", a=1.0)), text(call("f", a=1)), 4),
    "wrong value": (text(call("f", a="2")), GOLD, 2),
    "extra key": (text(call("f", a="1", b=2)), GOLD, 3),
    "no thought": (GOLD.partition("\n")[2], GOLD, 3),
    "two blocks": (GOLD + GOLD.removeprefix("<think>x</think>"), GOLD, 3),
    "plain answer": (RESPONSE, GOLD, -3),
    "response": (RESPONSE, RESPONSE, 1),
    "thought only": ("<think>x</think>", "<think>y</think>", 1),
    "no block closed": (GOLD.removesuffix("</tool_call>"), GOLD, -3),
    "empty block": ("<think>x</think>\n<tool_call>\n\n</tool_call>", GOLD, -2),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_the_rest_is_as_in_parity(name: str) -> None:
    completion, gold, total = UNCHANGED[name]
    assert score(completion, gold).total == pytest.approx(total)
    assert score(completion, gold, "parity").total == pytest.approx(total)


@pytest.mark.parametrize(
    "line",
    [
        '{"name": 1, "parameters": {}}',
        '{"name": "f", "parameters": []}',
        '{"parameters": {}}',
        '["f"]',
        "{",
        '{"name": "f", "parameters": {"a": NaN}}',
        '{"name": "f", "parameters": {"a": -Infinity}}',
        '{"name": "f", "parameters": {"a": 1e999}}',
        '{"name": "f", "parameters": {"a": {"b": 1, "b": 1}}}',
        '{"name": "f", "parameters": {"a": ' + "1" * 5000 + "}}",
        '{"name": "f", "parameters": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
    ],
    ids=range(11),
)
def test_refused_calls_score_the_minimum(line: str) -> None:
    scored = score(text(ONE, line), GOLD)
    assert scored.correctness == -3
    assert scored.components == {
        "format": 1.0,
        "tool_name": 0.0,
        "param_name": 0.0,
        "param_value": 0.0,
    }


@pytest.mark.parametrize(
    "completion",
    [
        "y " + GOLD,
        GOLD + "\n<response>hello</response>",
        "<think>a <think> b</think>" + GOLD.removeprefix("<think>x</think>"),
        GOLD.replace("x</think>", "x</think> y </think>"),
        text(call("f", a="<response>")),
        GOLD.replace("\n<tool_call>", "<tool_call>"),
    ],
)
def test_bodies_with_more_than_the_golds_blocks_fail_the_format(completion: str) -> None:
    assert score(completion, GOLD).format == 0


def test_both_blocks() -> None:
    both = GOLD + "\n<response>hello</response>"
    assert score(both, both).total == 4
    assert score(GOLD, both).total == 3


def test_order_still_counts_for_the_coarse_and_refined_variants() -> None:
    swapped, gold = text(call("g"), ONE), text(ONE, call("g"))
    assert score(swapped, gold).total == 4
    assert score(swapped, gold, "robust", "COARSEREWARD").correctness == -3
    assert score(swapped, gold, "robust", "REFINEDREWARD").correctness == pytest.approx(1.5)
    assert score(swapped, gold, "robust", "INTERMEDIATEREWARD").correctness == 3
    assert score(gold, gold, "robust", "COARSEREWARD").correctness == 3
    assert score(text({"name": "g"}), gold, "robust", "INTERMEDIATEREWARD").correctness == -3


def test_nested_values_compare_as_json() -> None:
    gold = text(call("f", a={"b": [1, {"c": True}], "d": None}))
    same = text(call("f", a={"d": None, "b": [1.0, {"c": True}]}))
    assert score(same, gold).success
    for other in ([1, {"c": 1}], [1], {"b": 1}, None, [1, {"e": True}]):
        assert not score(text(call("f", a={"b": other, "d": None})), gold).success
