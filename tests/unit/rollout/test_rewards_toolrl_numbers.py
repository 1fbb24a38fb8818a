"""Mode ``parity`` against numbers computed with ToolRL's released reward, and the worked examples.

The cases are in the project's shared data; the examples are those of algorithms.md 2.4.
"""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from etude_rollout.rewards import (
    RewardConfig,
    Scored,
    gold_from_task,
    score_completion,
    weighted_reward,
)
from support.shared_data import SHARED_DATA


def load(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((SHARED_DATA / name).read_text()))


CURATED = load("toolrl_reward_cases.json")
FUZZ = load("toolrl_fuzz_cases.json")
RUNS = [
    pytest.param(data, run, id=f"{data['schema'].split('/')[0]}-{run}")
    for data in (CURATED, FUZZ)
    for run in data["runs"]
]


def parity(completion: str, gold: str, *switches: str, step: int = 0) -> Scored:
    config = RewardConfig(mode="parity", switches=switches)
    reference = gold_from_task({"kind": "toolrl", "text": gold}, mode="parity")
    return score_completion(completion, reference, config=config, step=step)


@pytest.mark.parametrize(("data", "run"), RUNS)
def test_released_numbers(data: dict[str, Any], run: str) -> None:
    switches, step = data["runs"][run]["switches"], data["runs"][run]["step"]
    for case in data["cases"]:
        scored = parity(case["response"], case["ground_truth"], *switches, step=step)
        for part, expected in case["expected"][run].items():
            if part in ("total", "format", "correctness", "length"):
                got = getattr(scored, part)
                assert got == pytest.approx(expected, abs=data["tolerance"]), (case["id"], part)


def test_components_are_the_parts_of_the_default_reward() -> None:
    for case in FUZZ["cases"]:
        scored = parity(case["response"], case["ground_truth"])
        parts = case["parts"]
        n, k = scored.num_gold_calls, scored.num_gold_params
        assert 1 + n + k == parts["s_max"]
        assert scored.components["tool_name"] == pytest.approx(parts["r_name"], abs=1e-9)
        assert scored.components["param_name"] * n == pytest.approx(parts["r_param"], abs=1e-9)
        assert scored.components.get("param_value", 0.0) * k == pytest.approx(
            parts["r_value"], abs=1e-9
        )


@pytest.mark.parametrize("data", [CURATED, FUZZ], ids=["curated", "fuzz"])
def test_weights_of_one_give_the_default_reward(data: dict[str, Any]) -> None:
    ones = {"format": 1.0, "tool_name": 1.0, "param_name": 1.0, "param_value": 1.0}
    for case in data["cases"]:
        scored = parity(case["response"], case["ground_truth"])
        reward = weighted_reward(
            scored.components, n=scored.num_gold_calls, k=scored.num_gold_params, weights=ones
        )
        assert reward == pytest.approx(case["expected"]["default@0"]["total"], abs=1e-9)
        assert reward == pytest.approx(scored.total, abs=1e-9)


# Examples of algorithms.md 2.4.


def text(*calls: object, think: str = "x") -> str:
    lines = "\n".join(json.dumps(call) for call in calls)
    return f"<think>{think}</think>\n<tool_call>\n{lines}\n</tool_call>"


def call(name: str, **parameters: object) -> dict[str, object]:
    return {"name": name, "parameters": parameters}


RESPONSE = "<think>x</think>\n<response>hello</response>"
ONE = call("f", a="1")
TWO = [call("f", a=1), call("f", a=2)]
EXAMPLES = {
    "exact": (text(ONE), text(ONE), 4),
    "key order": (text(call("f", b=2, a=1)), text(call("f", a=1, b=2)), 4),
    "wrong value": (text(call("f", a="2")), text(ONE), 2),
    "wrong key": (text(call("f", b="1")), text(ONE), 0),
    "extra key": (text(call("f", a="1", b=1)), text(ONE), 3),
    "wrong name": (text(call("g", a="1")), text(ONE), -2),
    "parameter added": (text(call("f", a=1)), text(call("f")), 1),
    "one of five values": (
        text(call("f", a=1, b=2, c=3, d=4, e=0)),
        text(call("f", a=1, b=2, c=3, d=4, e=5)),
        3.1429,
    ),
    "one of two": (text(TWO[1]), text(*TWO), -0.2),
    "order swapped": (text(TWO[1], TWO[0]), text(*TWO), 4),
    "a third": (text(*TWO, TWO[0]), text(*TWO), 3.6),
    "no thought": (text(ONE).partition("\n")[2], text(ONE), 3),
    "two blocks": (text(ONE) + text(ONE).removeprefix("<think>x</think>"), text(ONE), 3),
    "invalid JSON": (text(ONE).replace("}}", "}"), text(ONE), -2),
    "arguments": (text(ONE).replace("parameters", "arguments"), text(ONE), -2),
    "plain answer": (RESPONSE, text(ONE), -3),
    "tag in thought": (text(ONE, think="a <tool_call> b"), text(ONE), -3),
    "response": (RESPONSE, RESPONSE, 1),
    "call for response": (text(ONE), RESPONSE, 0),
    "1 for '1'": (text(call("f", a=1)), text(ONE), 2),
    "true for 1": (text(call("f", a=True)), text(call("f", a=1)), 4),
    "1.0 for 1": (text(call("f", a=1.0)), text(call("f", a=1)), 4),
    "nameless, unused": (text(ONE, {"name": "g"}), text(ONE), 3),
    "nameless": (text(ONE, {"parameters": {}}), text(ONE), -2),
    "blank line": (text(ONE).replace("}}\n", "}}\n\n{}\n"), text(ONE), -2),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    completion, gold, reward = EXAMPLES[name]
    assert parity(completion, gold).total == pytest.approx(reward, abs=5e-5)


VARIANTS = [
    ("CORRECTMAX1", 0, (2, 1.3333, -1)),
    ("MAX1STEP30MAX3", 29, (2, 1.3333, -1)),
    ("MAX1STEP30MAX3", 30, (3.5, 1.5, -3)),
    ("SCHEDULEREWARD", 1, (4, 2.6622, -3.9933)),
    ("SCHEDULEREWARD", 30, (4, 2.5333, -3.8)),
    ("SCHEDULEREWARD", 75, (4, 2.3333, -3.5)),
    ("SCHEDULEREWARD", 104, (4, 2.2044, -3.6933)),
    ("SCHEDULEREWARD", 150, (4, 2, -4)),
    ("REFINEDREWARD", 0, (4, 2, -3)),
    ("INTERMEDIATEREWARD", 0, (4, 1, -3)),
    ("COARSEREWARD", 0, (4, -2, -3)),
    ("STRICTMATCH", 0, (4, 2, -3)),
    ("SCHEDULELENGTH", 9, (4, 2, -3)),
]


@pytest.mark.parametrize(("switch", "step", "rewards"), VARIANTS)
def test_variants(switch: str, step: int, rewards: tuple[float, ...]) -> None:
    completions = (text(ONE), text(call("f", a="2")), RESPONSE)
    for completion, reward in zip(completions, rewards, strict=True):
        got = parity(completion, text(ONE), switch, step=step).total
        assert got == pytest.approx(reward, abs=5e-5)


def test_variants_combine() -> None:
    switches = ("SCHEDULEREWARD", "CORRECTMAX1")
    assert parity(text(ONE), text(ONE), *switches, step=75).total == 3
    assert parity(text(call("f", a="2")), text(ONE), *switches, step=75).total == 2


@pytest.mark.parametrize(
    ("switches", "step", "length"),
    [
        (("WITHLENGTH",), 0, 0.5),
        (("WITHLENGTH", "SCHEDULELENGTH"), 0, 0.67),
        (("WITHLENGTH", "SCHEDULELENGTH"), 52, 0.5),
        (("WITHLENGTH", "SCHEDULELENGTH"), 105, 0.4),
        (("WITHLENGTH", "SCHEDULELENGTH"), 150, 0.34),
    ],
)
def test_length(switches: tuple[str, ...], step: int, length: float) -> None:
    scored = parity(text(ONE, think="w " * 256), text(ONE), *switches, step=step)
    assert scored.length == length
    assert scored.total == 4 + length


def test_length_needs_both_tags() -> None:
    assert parity("w " * 256 + "</think>", text(ONE), "WITHLENGTH").length == 0


def test_equal_lists_are_right_even_with_nan() -> None:
    gold = text(ONE).replace('"1"', "NaN")
    assert parity(gold, gold).total == 4


def test_refined_compares_key_lists_unless_the_calls_are_equal() -> None:
    gold = text(call("f", a=1, b=2))
    assert parity(text(call("f", b=2, a=1)), gold, "REFINEDREWARD").total == 4
    swapped = parity(text(call("f", b=2, a=0)), gold, "REFINEDREWARD")
    assert swapped.total == pytest.approx(1 + 6 * 2 / 4 - 3)
    assert swapped.components["param_name"] == 1, "switches do not move components"


@pytest.mark.parametrize("name", ["null", "[1]", '{"a": 1}', "1.5"])
def test_names_of_any_type(name: str) -> None:
    odd = text(ONE).replace('"f"', name)
    assert parity(odd, text(ONE)).total == -2
    assert parity(odd, text(ONE), "INTERMEDIATEREWARD").total == -2


def test_a_call_without_a_name_fails_every_variant_but_the_equal_list() -> None:
    for switch in ("INTERMEDIATEREWARD", "COARSEREWARD", "REFINEDREWARD"):
        assert parity(text(ONE, {}), text(ONE), switch).total == -2


@pytest.mark.parametrize(
    ("completion", "correctness"),
    [
        # The block ends at the next tag of either kind; a closing tag may stand anywhere.
        ('<tool_call>\n{"name": "f", "parameters": {"a": "1"}}\n<tool_call>\nx</tool_call>', 3),
        ('</tool_call><tool_call>\n{"name": "f", "parameters": {"a": "1"}}', 3),
        ('<tool_call>\n{"name": "f", "parameters": {"a": "1"}}', -3),
    ],
)
def test_how_the_block_is_cut(completion: str, correctness: float) -> None:
    assert parity(completion, text(ONE)).correctness == correctness
