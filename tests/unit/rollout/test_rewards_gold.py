"""Golds, their counts and faults, the configuration, and the weighted reward."""

from __future__ import annotations

import json

import pytest

from etude_rollout.rewards import (
    SWITCHES,
    GoldError,
    Mode,
    RewardConfig,
    RewardConfigError,
    active_subtasks,
    counts,
    gold_from_task,
    score_completion,
    weighted_reward,
)

ALL = ("format", "tool_name", "param_name", "param_value")


def toolrl(*lines: str) -> dict[str, object]:
    block = "\n".join(lines)
    return {"kind": "toolrl", "text": f"<think>x</think>\n<tool_call>\n{block}\n</tool_call>"}


def calls(*parameters: dict[str, object], response: bool = False) -> dict[str, object]:
    listed = [{"name": "f", "parameters": each} for each in parameters]
    return {"kind": "calls", "calls": listed, "response": response}


def completion(*parameters: dict[str, object]) -> str:
    lines = "\n".join(json.dumps({"name": "f", "parameters": each}) for each in parameters)
    return f"<think>x</think>\n<tool_call>\n{lines}\n</tool_call>"


@pytest.mark.parametrize(
    ("reference", "expected", "active"),
    [
        ({"kind": "response"}, (0, 0), ALL[:1]),
        ({"kind": "toolrl", "text": "<think>x</think>\n<response>y</response>"}, (0, 0), ALL[:1]),
        (toolrl('{"name": "f", "parameters": {}}'), (1, 0), ALL[:3]),
        (calls({"a": 1, "b": 2}, {}), (2, 2), ALL),
        ({"kind": "bfcl", "calls": [{"f": {"a": [1], "b": [2, ""]}}]}, (1, 1), ALL),
        ({"kind": "bfcl", "calls": [{"f": {"b": [2, ""]}}]}, (1, 0), ALL[:3]),
    ],
)
def test_counts_and_active_subtasks(
    reference: dict[str, object], expected: tuple[int, int], active: tuple[str, ...]
) -> None:
    gold = gold_from_task(reference)
    assert counts(gold) == expected
    assert active_subtasks(gold) == active
    scored = score_completion("nothing", gold, config=RewardConfig())
    assert tuple(scored.components) == active
    assert (scored.num_gold_calls, scored.num_gold_params) == expected


DEEP: object = "x"
for _ in range(70):
    DEEP = [DEEP]

FAULTS = [
    ({}, "unknown kind of reference None"),
    ({"kind": "other"}, "unknown kind of reference 'other'"),
    ({"kind": "toolrl"}, "'text' must be"),
    ({"kind": "toolrl", "text": " "}, "'text' must be"),
    ({"kind": "toolrl", "text": "<tool_call>\n{}"}, "gold call 1 has no string 'name'"),
    (toolrl("{bad"), "gold call 1 cannot be read"),
    (toolrl('{"name": "f", "parameters": {}}', "[]"), "gold call 2 is not an object"),
    (toolrl('{"name": "f"}'), "gold call 1 has no object 'parameters'"),
    (toolrl('{"name": 1, "parameters": {}}'), "gold call 1 has no string 'name'"),
    ({"kind": "calls"}, "'calls' must be a non-empty list"),
    ({"kind": "calls", "calls": "f"}, "'calls' must be a non-empty list"),
    ({"kind": "calls", "calls": []}, "'calls' must be a non-empty list"),
    ({**calls({}), "response": 1}, "'response' must be true or false"),
    ({"kind": "calls", "calls": [{"name": "f"}]}, "gold call 1 has no object 'parameters'"),
    (calls({"a": DEEP}), "deeper than 64 levels"),
    ({"kind": "bfcl", "calls": [{"f": {}, "g": {}}]}, "one function name"),
    ({"kind": "bfcl", "calls": [{"f": []}]}, "must map a function name to its arguments"),
    ({"kind": "bfcl", "calls": [{"f": {"a": 1}}]}, "argument 'a' needs a list"),
    ({"kind": "bfcl", "calls": [{"f": {"a": [DEEP]}}]}, "deeper than 64 levels"),
]


@pytest.mark.parametrize(("reference", "fault"), FAULTS)
def test_faults_are_named(reference: dict[str, object], fault: str) -> None:
    with pytest.raises(GoldError, match=fault):
        gold_from_task(reference)


LINE = '{"name": "f", "parameters": {"a": 1}}'
ONE_MODE: list[tuple[dict[str, object], Mode, str]] = [
    (toolrl(LINE.replace("1}", '1, "a": 1}')), "parity", "duplicate key"),
    (toolrl(LINE.replace("1", "NaN")), "parity", "NaN is not JSON"),
    (toolrl(LINE.replace("1", "[Infinity]")), "parity", "Infinity is not JSON"),
    ({"kind": "toolrl", "text": "<tool_call>\n" + LINE}, "parity", "without </tool_call>"),
    ({"kind": "toolrl", "text": "<tool_call>" + LINE + "</think>"}, "robust", "cannot be read"),
    (toolrl(LINE, "", LINE), "robust", "gold call 2 cannot be read"),
    ({"kind": "toolrl", "text": "<think><tool_call>x</think>"}, "robust", "cannot be read"),
]


@pytest.mark.parametrize(("reference", "mode", "fault"), ONE_MODE)
def test_without_a_mode_a_gold_must_be_valid_in_both(
    reference: dict[str, object], mode: Mode, fault: str
) -> None:
    gold = gold_from_task(reference, mode=mode)
    score_completion("x", gold, config=RewardConfig(mode=mode))
    with pytest.raises(GoldError, match=fault):
        gold_from_task(reference)
    other: Mode = "robust" if mode == "parity" else "parity"
    with pytest.raises(GoldError, match="another mode"):
        score_completion("x", gold, config=RewardConfig(mode=other))


def test_an_empty_block_is_no_robust_gold() -> None:
    with pytest.raises(GoldError, match="call block is empty"):
        gold_from_task(toolrl(" "), mode="robust")


def test_calls_with_response_expect_both_blocks() -> None:
    gold = gold_from_task(calls({"a": 1}, response=True))
    text = completion({"a": 1})
    assert not score_completion(text, gold, config=RewardConfig()).success
    both = text + "\n<response>done</response>"
    assert score_completion(both, gold, config=RewardConfig()).success


@pytest.mark.parametrize(
    ("kind", "mode", "switches", "message"),
    [
        ("other", "robust", (), "unknown reward 'other'; known: toolrl"),
        ("toolrl", "exact", (), "unknown mode 'exact'; known: parity, robust"),
        ("toolrl", "robust", ("WITHLENGTH", "FAST"), "unknown switch 'FAST'; known: CORRECTMAX1"),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(
    kind: str, mode: Mode, switches: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RewardConfigError, match=message):
        RewardConfig(kind=kind, mode=mode, switches=switches)


def test_every_switch_is_accepted() -> None:
    assert len(SWITCHES) == 9
    RewardConfig(switches=SWITCHES)


def test_negative_step() -> None:
    with pytest.raises(ValueError, match="step must be >= 0"):
        score_completion("x", gold_from_task(calls({})), config=RewardConfig(), step=-1)


# The weighted reward: algorithms.md 3.6, examples of 3.7.

TARGET = dict(zip(ALL, (0.755462, 0.974582, 1.069174, 1.200782), strict=True))
WEIGHTED = [
    ((1, 1, 1, 0.5), 1, 2, 2.5, 2.134726),
    ((1, 1, 1, 0.8), 1, 5, 3.142857, 2.86021),
    ((1, 0.5, 0.5, 0), 2, 2, -0.2, -0.551038),
    ((1, 0, 0, 0), 1, 1, -2.0, -2.244538),
    ((1,), 0, 0, 1.0, 0.755462),
    ((1, 1, 1), 1, 0, 4.0, 3.755462),
    ((1, 1, 1, 0.75), 1, 4, 3.0, None),
    ((0, 1, 1, 1), 1, 4, 3.0, None),
]


@pytest.mark.parametrize(("values", "n", "k", "ones", "target"), WEIGHTED)
def test_weighted_examples(
    values: tuple[float, ...], n: int, k: int, ones: float, target: float | None
) -> None:
    components = {name: float(value) for name, value in zip(ALL, values, strict=False)}
    assert weighted_reward(components, n=n, k=k) == pytest.approx(ones, abs=1e-6)
    if target is not None:
        weighted = weighted_reward(components, n=n, k=k, weights=TARGET)
        assert weighted == pytest.approx(target, abs=2e-6)


def test_weights_of_the_lease_act_on_the_total() -> None:
    gold = gold_from_task(calls({"a": 1, "b": 2}))
    config = RewardConfig()
    scored = score_completion(
        completion({"a": 1, "b": 0}), gold, config=config, component_weights=TARGET
    )
    assert scored.total == pytest.approx(2.134726, abs=2e-6)
    assert scored.format == 0.755462
    assert scored.components["param_value"] == 0.5
    # Weights of sub-tasks that are no component of this gold are not looked at.
    other = score_completion(
        completion({"a": 1, "b": 0}), gold, config=config, component_weights={"web_search": 2.0}
    )
    assert other.total == pytest.approx(2.5)


def test_weights_keep_to_the_bounds_of_the_switches() -> None:
    gold = gold_from_task(calls({"a": 1, "b": 2}))
    scored = score_completion(
        completion({"b": 2, "a": 0}),
        gold,
        config=RewardConfig(switches=("CORRECTMAX1", "REFINEDREWARD")),
        component_weights={"param_name": 2.0},
    )
    assert scored.correctness == pytest.approx(2 * (1 + 0 + 1) / (1 + 2 + 2) - 1)
    assert scored.components["param_name"] == 1


@pytest.mark.parametrize("switch", ["COARSEREWARD", "INTERMEDIATEREWARD"])
def test_weights_need_components_to_act_on(switch: str) -> None:
    gold = gold_from_task(calls({"a": 1}))
    config = RewardConfig(switches=(switch,))
    ones = dict.fromkeys(ALL, 1.0)
    score_completion("x", gold, config=config, component_weights=ones)
    with pytest.raises(RewardConfigError, match="cannot act"):
        score_completion("x", gold, config=config, component_weights=TARGET)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_bad_weights(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of format must be a finite number"):
        weighted_reward({"format": 1.0}, n=0, k=0, weights={"format": weight})


def test_weights_must_leave_something_to_score() -> None:
    zeros = dict.fromkeys(ALL[1:], 0.0)
    with pytest.raises(ValueError, match="are all 0"):
        weighted_reward(dict.fromkeys(ALL[:3], 1.0), n=1, k=0, weights=zeros)
