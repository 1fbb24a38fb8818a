"""``etude-rollout score``: lines in, lines out, and what happens to bad ones."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from etude_rollout.cli import main
from etude_rollout.rewards import RewardConfigError
from etude_rollout.score import BadLinesError, run_score
from support.shared_data import SHARED_DATA

GOLD = '<think>x</think>\n<tool_call>\n{"name": "f", "parameters": {"a": "1"}}\n</tool_call>'
CASES = json.loads((SHARED_DATA / "toolrl_reward_cases.json").read_text())


def line(completion: object, gold: object = GOLD) -> str:
    return json.dumps({"completion": completion, "gold": gold}) + "\n"


def results(
    *lines: str, mode: str = "robust", switches: tuple[str, ...] = (), step: int = 0
) -> list[dict[str, Any]]:
    scored = run_score(lines, mode=mode, switches=switches, step=step)
    return [json.loads(each) for each in scored]


def test_one_object_for_each_line() -> None:
    assert results(line(GOLD), line(GOLD.replace('"1"', '"2"'))) == [
        {
            "total": 4.0,
            "format": 1.0,
            "correctness": 3.0,
            "length": 0.0,
            "components": {"format": 1, "tool_name": 1, "param_name": 1, "param_value": 1},
            "success": True,
            "num_gold_calls": 1,
            "num_gold_params": 1,
        },
        {
            "total": 2.0,
            "format": 1.0,
            "correctness": 1.0,
            "length": 0.0,
            "components": {"format": 1, "tool_name": 1, "param_name": 1, "param_value": 0},
            "success": False,
            "num_gold_calls": 1,
            "num_gold_params": 1,
        },
    ]


def test_modes_switches_and_steps() -> None:
    true = line(GOLD.replace('"1"', "true"), GOLD.replace('"1"', "1"))
    assert results(true)[0]["total"] == 2
    assert results(true, mode="parity")[0]["total"] == 4
    wrong = line(GOLD.replace('"1"', '"2"'))
    scheduled = results(wrong, switches=("SCHEDULEREWARD",), step=104)[0]
    assert scheduled["total"] == pytest.approx(2.2044, abs=5e-5)


def test_gold_may_be_a_reference() -> None:
    bfcl = {"kind": "bfcl", "calls": [{"f": {"a": ["1", "one"]}}]}
    assert results(line(GOLD.replace('"1"', '"One"'), bfcl))[0]["success"]


BAD = [
    ("{bad\n", "not JSON"),
    ("\n", "not JSON"),
    ("[" * 100_000 + "\n", "nested too deeply"),
    ('{"completion": ' + "1" * 5000 + "}", "not JSON: Exceeds the limit"),
    ("[]\n", 'not an object with "completion" and "gold"'),
    (line(1), '"completion" must be a string'),
    ('{"gold": "x"}\n', '"completion" must be a string'),
    ('{"completion": "x"}\n', '"gold" must be a string in ToolRL\'s format or a reference'),
    (line("x", "<tool_call>\n{bad\n</tool_call>"), "gold call 1 cannot be read"),
    (line("x", {"kind": "web"}), "unknown kind of reference 'web'"),
]


@pytest.mark.parametrize(("bad", "fault"), BAD, ids=range(len(BAD)))
def test_bad_lines_are_named_and_good_ones_scored(bad: str, fault: str) -> None:
    scored = run_score([line(GOLD), bad, line(GOLD)])
    assert len([next(scored), next(scored)]) == 2
    with pytest.raises(BadLinesError) as caught:
        next(scored)
    (sentence,) = caught.value.faults
    assert sentence.startswith("line 2: ")
    assert fault in sentence
    assert "\n" not in sentence
    assert pickle.loads(pickle.dumps(caught.value)).faults == caught.value.faults


def test_bytes_must_be_utf_8() -> None:
    with pytest.raises(BadLinesError, match="line 1: not UTF-8"):
        list(run_score([b'{"completion": "\xff"}']))


@pytest.mark.parametrize(
    "options",
    [{"reward": "web"}, {"mode": "exact"}, {"switches": ("FAST",)}, {"step": -1}],
    ids=str,
)
def test_options_are_checked_before_the_first_line(options: dict[str, Any]) -> None:
    with pytest.raises(RewardConfigError):
        run_score([], **options)


def test_command() -> None:
    options = ["--mode", "parity", "--switches", "WITHLENGTH, SCHEDULELENGTH", "--step", "52"]
    run = CASES["runs"]["SCHEDULELENGTH+WITHLENGTH@52"]
    assert (set(run["switches"]), run["step"]) == ({"WITHLENGTH", "SCHEDULELENGTH"}, 52)
    lines = [line(case["response"], case["ground_truth"]) for case in CASES["cases"]]
    result = CliRunner().invoke(main, ["score", *options], input="".join(lines))
    assert result.exit_code == 0
    totals = [json.loads(each)["total"] for each in result.stdout.splitlines()]
    expected = [
        case["expected"]["SCHEDULELENGTH+WITHLENGTH@52"]["total"] for case in CASES["cases"]
    ]
    assert totals == pytest.approx(expected, abs=1e-9)


def test_command_with_bad_lines() -> None:
    result = CliRunner().invoke(main, ["score"], input=line(GOLD) + "{\n" + line(GOLD) + line(3))
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 2
    first, second, why = result.stderr.splitlines()
    assert first.startswith("refused: line 2: not JSON")
    assert second == 'refused: line 4: "completion" must be a string'
    assert why == "etude-rollout: 2 lines could not be scored"


def test_command_with_a_bad_option() -> None:
    result = CliRunner().invoke(main, ["score", "--switches", "FAST"], input="")
    assert result.exit_code == 2
    assert result.stdout == ""
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("etude-rollout: unknown switch 'FAST'; known: CORRECTMAX1, ")


def test_the_rewards_need_no_service() -> None:
    code = "import sys, etude_rollout.rewards; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"pydantic", "typer", "fastapi", "torch", "httpx", "etude_proto"})
