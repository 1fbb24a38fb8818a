"""Sub-tasks of a reference: the same rule as the rewards', on real gold and on made-up gold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_proto.rows.stream import Row, RowRefused
from etude_proto.rows.subtasks import subtasks_of
from etude_proto.rows.toolrl_gold import parse_gold
from etude_proto.v1 import (
    BFCLReference,
    Call,
    CallsReference,
    Reference,
    ResponseReference,
    ToolRLReference,
)
from etude_rollout.rewards import GoldError, active_subtasks, counts, gold_from_task
from etude_sampler.datasets.bfcl import bfcl_rows, installed_data

ALL = ["format", "tool_name", "param_name", "param_value"]

GOLD_PIECES = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>", "\n",
    "\n\n", " ", '{"name": "f", "parameters": {}}', '{"name": "g", "parameters": {"a": 1}}',
    "words", '{"name": "f"}', '{"name": "f", "parameters": {"a": NaN}}', "[]", "{",
    '{"name": "f", "parameters": {"a": 1, "a": 2}}',
]  # fmt: skip


def _as_rewards_see_it(reference: Reference) -> list[str]:
    return list(active_subtasks(gold_from_task(reference.model_dump(mode="json"))))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (None, []),
        (ResponseReference(), ["format"]),
        (CallsReference(calls=[Call(name="f")]), ALL[:3]),
        (CallsReference(calls=[Call(name="f"), Call(name="g", parameters={"a": None})]), ALL),
        (BFCLReference(calls=[{"f": {"a": [1, ""]}}]), ALL[:3]),
        (BFCLReference(calls=[{"f": {"a": [1, ""], "b": [2]}}]), ALL),
        (BFCLReference(calls=[{"f": {}}]), ALL[:3]),
        (BFCLReference(calls=[{"f": {"a": []}}]), ALL),
        (ToolRLReference(text="<think> t </think>\n<response> r </response>"), ["format"]),
    ],
)
def test_rule(reference: Reference | None, expected: list[str]) -> None:
    assert subtasks_of(reference) == expected
    if reference is not None:
        assert _as_rewards_see_it(reference) == expected


def test_all_of_bfcl_agrees_with_the_rewards() -> None:
    num_rows = 0
    for row in bfcl_rows(installed_data()):
        assert isinstance(row, Row)
        assert row.task.reference is not None
        assert row.task.subtasks == _as_rewards_see_it(row.task.reference)
        num_rows += 1
    assert num_rows == 3435


def test_the_published_reward_cases_agree_with_the_rewards() -> None:
    data = Path(__file__).parents[4] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the project's shared data lies beside the repository; not here")
    texts = set()
    for name in ("toolrl_reward_cases.json", "toolrl_fuzz_cases.json"):
        cases = json.loads((data / name).read_text(encoding="utf-8"))["cases"]
        texts |= {case["ground_truth"] for case in cases}
    assert len(texts) > 50
    for text in texts:
        reference = ToolRLReference(text=text)
        assert subtasks_of(reference) == _as_rewards_see_it(reference)


@given(st.lists(st.sampled_from(GOLD_PIECES), min_size=1, max_size=12).map("".join))
def test_gold_that_is_imported_can_be_scored_in_both_modes(text: str) -> None:
    reference = ToolRLReference(text=text)
    try:
        gold = parse_gold(text)
    except RowRefused:
        return
    rewards_gold = gold_from_task(reference.model_dump(mode="json"))
    assert counts(rewards_gold) == (len(gold.calls), gold.num_parameters)
    for mode in ("parity", "robust"):
        assert len(rewards_gold.reading(mode).calls) == len(gold.calls)


def test_gold_that_the_rewards_refuse_is_not_imported() -> None:
    text = "<think> t </think>\n<tool_call>\n{}\n</tool_call>"
    with pytest.raises(GoldError):
        gold_from_task({"kind": "toolrl", "text": text})
    with pytest.raises(RowRefused):
        subtasks_of(ToolRLReference(text=text))
