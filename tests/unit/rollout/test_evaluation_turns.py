"""BFCL's multi-turn rows: gold is right on each, by the package's checker and in the whole loop."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from pydantic import JsonValue

from etude_proto.rows.bfcl import Category
from etude_proto.rows.stream import Row
from etude_rollout.evaluation.bfcl import Bfcl
from etude_rollout.evaluation.bfcl_data import MULTI_TURN, installed_data
from etude_rollout.evaluation.bfcl_turns_checker import TurnsChecker, call_texts
from etude_rollout.evaluation.calls import answer_text, answer_without_calls
from etude_rollout.evaluation.items import Item, Verdict
from etude_rollout.evaluation.running import Plan, evaluate
from etude_rollout.settings import RolloutSettings
from etude_sampler.datasets.bfcl import bfcl_rows


@cache
def everything() -> Bfcl:
    return Bfcl(MULTI_TURN)


def gold_turns(item: Item) -> list[list[str]]:
    """The gold's answers, in the user's turns."""
    turns: list[list[str]] = [[]]
    for text in everything().gold_answers(item):
        turns[-1].append(text)
        if "<response>" in text:
            turns.append([])
    return turns[:-1]


def test_gold_is_right_on_every_row() -> None:
    bench = everything()
    wrong = {it.id for it in bench.items() if not bench.check(it, "", gold_turns(it)).is_right}
    assert wrong == set()
    assert list(bench.sizes.values()) == [200] * 4


def test_what_is_left_out_or_wrong_is_noticed() -> None:
    bench = everything()
    item = bench.items()[0]
    turns = gold_turns(item)
    silent = [answer_without_calls("no")]
    for changed, reason in (
        ([silent, *turns[1:]], "multi_turn:empty_turn_model_response"),
        (turns[:-1], "multi_turn:force_terminated"),
        ([[*turns[0][:-1], _calls("rm", file_name="temp"), silent[0]], *turns[1:]], "state"),
        ([turns[0], [_calls("pwd"), silent[0]], *turns[2:]], "multi_turn:"),
    ):
        verdict = bench.check(item, "", changed)
        assert not verdict.is_right
        assert reason in verdict.reason
    more = [[_calls("pwd"), *turns[0]], *turns[1:]]
    assert bench.check(item, "", more).is_right, "a call that changes nothing does no harm"
    assert bench.check(item, "", turns).is_right, "nothing is left of the checks before"


def _calls(name: str, /, **parameters: str | int) -> str:
    return answer_text([(name, dict(parameters))])


def test_policies_text_is_never_executed() -> None:
    tools = {"cd", "echo"}
    assert call_texts(_calls("cd", folder="a"), tools) == ["cd(folder='a')"]
    assert call_texts(_calls("echo", content="x'); import os #"), tools) == [
        """echo(content="x'); import os #")"""
    ]
    for hostile in (
        _calls("__import__", name="os"),
        _calls("cd(folder='a') or exit", a="b"),
        '<tool_call>\n{"name": "cd", "parameters": {"a=1) or exit(": 1}}\n</tool_call>',
        '<tool_call>\n{"name": "cd", "parameters": [1]}\n</tool_call>',
    ):
        assert call_texts(f"<think> x </think>\n{hostile}", tools) == []


def test_a_row_that_never_ends_is_wrong_and_the_next_one_is_judged() -> None:
    checker = TurnsChecker(seconds_a_row=2)
    row: dict[str, JsonValue] = {
        "id": "multi_turn_base_0",
        "initial_config": {},
        "involved_classes": ["MathAPI"],
    }
    gold: JsonValue = [["add(a=1, b=2)"]]

    def judged(name: str, **values: int) -> Verdict:
        return checker.check(row, gold, [[_calls(name, **values)]], tools={name})

    assert judged("add", a=1, b=2).is_right
    endless = judged("power", base=9**99, exponent=9**9)
    assert (endless.is_right, endless.reason) == (
        False,
        "the checker gave up: too long, or too large",
    )
    assert judged("add", a=1, b=2).is_right


async def test_gold_through_the_loop_and_its_environment(tmp_path: Path, policy_dir: Path) -> None:
    settings = RolloutSettings(model_path=policy_dir)
    plan = Plan(settings=settings, out=tmp_path, is_gold=True, limit=1, concurrency=2)
    evaluated = await evaluate(plan, everything(), on_answer=lambda *_: None)
    assert evaluated.unanswered == []
    assert {domain.domain: domain.num_right for domain in evaluated.summary.domains} == (
        dict.fromkeys(MULTI_TURN, 1)
    )
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()[1:]
    for line in lines:
        answer = json.loads(line)
        assert len(answer["turns"]) >= 2
        assert answer["finish_reason"] == "stop"


def test_items_are_those_of_the_import() -> None:
    categories = [Category(name) for name in MULTI_TURN]
    items = {item.id: item for item in everything().items()}
    for row in bfcl_rows(installed_data(), categories):
        assert isinstance(row, Row)
        item = items.pop(str(row.task.metadata["bfcl_id"]))
        assert item.episode is not None
        assert item.episode.environment == row.task.environment
        assert list(item.messages) == row.task.messages
        assert item.split == row.task.split.value
    assert not items


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etude_rollout.evaluation.bfcl_data.PACKAGE", "not_installed_anywhere")
    with pytest.raises(Exception, match="pip install --no-deps bfcl-eval"):
        installed_data()
