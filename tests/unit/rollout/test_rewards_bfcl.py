"""BFCL gold: the components of algorithms.md 9.2, and which values count as allowed."""

from __future__ import annotations

import json

import pytest

from etude_rollout.rewards import Gold, RewardConfig, Scored, gold_from_task, score_completion

Calls = list[tuple[str, dict[str, object]]]


def score(calls: Calls, gold: Gold) -> Scored:
    lines = "\n".join(json.dumps({"name": name, "parameters": given}) for name, given in calls)
    text = f"<think>x</think>\n<tool_call>\n{lines}\n</tool_call>"
    return score_completion(text, gold, config=RewardConfig())


def bfcl(*calls: dict[str, dict[str, list[object]]]) -> Gold:
    return gold_from_task({"kind": "bfcl", "calls": list(calls)})


DATE = bfcl({"f": {"day": ["april 1 2024"], "x": [1.5, 5.0], "n": [5], "unit": ["", "km"]}})
RIGHT = {"day": "April 1, 2024", "x": 5, "n": 5}


@pytest.mark.parametrize(
    ("given", "param_name", "param_value"),
    [
        (RIGHT, 1, 1),
        ({**RIGHT, "unit": "KM"}, 1, 1),
        ({**RIGHT, "unit": ""}, 1, 1),
        ({**RIGHT, "x": 1.5}, 1, 1),
        ({**RIGHT, "n": "5"}, 1, 2 / 3),
        ({**RIGHT, "n": 5.0}, 1, 2 / 3),
        ({**RIGHT, "n": True}, 1, 2 / 3),
        ({**RIGHT, "x": 2}, 1, 2 / 3),
        ({**RIGHT, "day": None}, 1, 2 / 3),
        ({**RIGHT, "unit": "miles"}, 1, 3 / 4),
        ({**RIGHT, "unit": 3}, 1, 3 / 4),
        ({**RIGHT, "other": 1}, 3 / 4, 1),
        ({"day": "April 1, 2024", "n": 5}, 2 / 3, 2 / 3),
        ({"unit": "km"}, 1 / 4, 1 / 4),
        ({}, 0, 0),
    ],
)
def test_components(given: dict[str, object], param_name: float, param_value: float) -> None:
    scored = score([("f", given)], DATE)
    assert (scored.num_gold_calls, scored.num_gold_params) == (1, 3)
    assert scored.components == pytest.approx(
        {"format": 1, "tool_name": 1, "param_name": param_name, "param_value": param_value}
    )
    assert scored.success == (param_name == 1 and param_value == 1)
    assert scored.total == pytest.approx(1 + 6 * (1 + param_name + 3 * param_value) / 5 - 3)


@pytest.mark.parametrize(
    ("given", "param_name"),
    [({}, 1), ({"a": "all"}, 1), ({"a": "none"}, 0), ({"b": 1}, 0), ({"a": "all", "b": 1}, 0.5)],
)
def test_a_call_whose_arguments_may_all_be_absent(
    given: dict[str, object], param_name: float
) -> None:
    scored = score([("f", given)], bfcl({"f": {"a": ["", "all"]}}))
    assert scored.components == {"format": 1, "tool_name": 1, "param_name": param_name}
    assert scored.success == (param_name == 1)


def test_calls_match_in_any_order_and_none_too_many() -> None:
    gold = bfcl({"f": {"a": [1, 2]}}, {"f": {"a": [2]}}, {"g": {}})
    assert score([("g", {}), ("f", {"a": 2}), ("f", {"a": 1})], gold).success
    assert score([("f", {"a": 2}), ("f", {"a": 2}), ("g", {})], gold).success
    assert not score([("f", {"a": 1}), ("f", {"a": 1}), ("g", {})], gold).success
    twice = score([("f", {"a": 1}), ("f", {"a": 2}), ("g", {}), ("g", {})], gold)
    assert twice.components["tool_name"] == 3 / 4
    assert not twice.success


def test_greedy_parity_reads_bfcl_gold_too() -> None:
    gold = bfcl({"f": {"a": [1, 2]}}, {"f": {"a": [2]}})
    text = (
        '<think>x</think>\n<tool_call>\n{"name": "f", "parameters": {"a": 2}}\n'
        '{"name": "f", "parameters": {"a": 1}}\n</tool_call>'
    )
    assert score_completion(text, gold, config=RewardConfig()).success
    parity = score_completion(text, gold, config=RewardConfig(mode="parity"))
    assert parity.components["param_value"] == 0.5


@pytest.mark.parametrize(
    ("allowed", "right", "wrong"),
    [
        ([["a b", "C"]], ["ab", "c"], ["c", "ab"]),
        ([[1.0, 2.0]], [1.0, 2.0], [1, 2]),
        ([[1, [2, "x"]]], [1, [2, "X"]], [1, [3, "x"]]),
        ([{"k": ["v", ""], "n": [3]}], {"n": 3}, {"k": "v"}),
        ([{"k": ["v"], "n": [3]}], {"n": 3, "k": "V"}, {"n": 3, "k": "v", "z": 1}),
        ([{"p": [{"x": 1.5, "s": "ab"}]}], {"p": {"s": "a b", "x": 1.5}}, {"p": {"x": 1.5}}),
        ([{"p": 4}], {"p": 4}, {"p": 5}),
        ([[{"k": ["v"]}, {"k": ["w"]}]], [{"k": "v"}, {"k": "w"}], [{"k": "w"}, {"k": "v"}]),
        ([True], True, 1),
        ([None], None, ""),
        (["", 3], 3, ""),
        (["it's"], 'It"s', "its"),
        ([], [], None),
    ],
)
def test_values(allowed: list[object], right: object, wrong: object) -> None:
    gold = bfcl({"f": {"a": allowed, "b": [1]}})
    assert score([("f", {"a": right, "b": 1})], gold).success
    assert not score([("f", {"a": wrong, "b": 1})], gold).success


def test_whole_call_variants() -> None:
    gold = bfcl({"f": {"a": [1]}})
    config = RewardConfig(switches=("INTERMEDIATEREWARD",))
    text = '<think>x</think>\n<tool_call>\n{"name": "f", "parameters": %s}\n</tool_call>'
    assert score_completion(text % '{"a": 1}', gold, config=config).correctness == 3
    assert score_completion(text % '{"a": 2}', gold, config=config).correctness == 0
    parity = RewardConfig(mode="parity", switches=("INTERMEDIATEREWARD",))
    assert score_completion(text % "null", gold, config=parity).correctness == 0
