"""BFCL's multi-turn rows become tasks with an environment, and bad ones say where they are bad."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import JsonValue

from etude_proto.rows.bfcl import Category, bfcl_turns_task
from etude_proto.rows.stream import Row, RowFault, RowRefused
from etude_proto.v1 import BfclEnvironment, BfclTurnsReference, TaskCreate, task_id
from etude_sampler.datasets.bfcl import bfcl_rows, installed_data

TURNS = [category for category in Category if category.is_multi_turn]
GOOD: dict[str, JsonValue] = {
    "id": "multi_turn_base_0",
    "question": [[{"role": "user", "content": "go"}], [{"role": "user", "content": "on"}]],
    "initial_config": {"MathAPI": {}},
    "involved_classes": ["MathAPI"],
    "path": ["MathAPI.add"],
}
GOLD: dict[str, JsonValue] = {"multi_turn_base_0": [["add(a=1, b=2)"], []]}


def tasks() -> list[TaskCreate]:
    found = list(bfcl_rows(installed_data(), TURNS))
    assert not [one for one in found if isinstance(one, RowFault)]
    return [one.task for one in found if isinstance(one, Row)]


def test_every_row_becomes_a_task_that_travels() -> None:
    rows = tasks()
    assert Counter(task.source for task in rows) == {f"bfcl/{one}": 200 for one in TURNS}
    assert len({task_id(task) for task in rows}) == len(rows)
    for task in rows:
        assert TaskCreate.model_validate_json(task.model_dump_json()) == task
        assert isinstance(task.environment, BfclEnvironment)
        assert isinstance(task.reference, BfclTurnsReference)
        assert task.subtasks == ["format", "state", "response"]
        config = task.environment.config
        assert config.long_context is (task.source == "bfcl/multi_turn_long_context")
        assert bool(config.withheld) is (task.source == "bfcl/multi_turn_miss_func")
        for number in config.withheld:
            assert task.environment.user_turns[int(number) - 1] == []


def changed(**fields: JsonValue) -> dict[str, JsonValue]:
    return {**GOOD, **fields}


def converted(row: dict[str, JsonValue], gold: dict[str, JsonValue]) -> TaskCreate:
    return bfcl_turns_task(row, category=Category.MULTI_TURN_BASE, gold=gold)


@pytest.mark.parametrize(
    ("row", "gold", "pointer"),
    [
        (changed(question=[]), GOLD, "/question"),
        (changed(question="go"), GOLD, "/question"),
        (changed(question=[[{"role": "user"}]]), GOLD, "/question/0/0/content"),
        (changed(involved_classes=["os"]), GOLD, "/involved_classes/0"),
        (changed(initial_config=3), GOLD, "/initial_config"),
        (changed(missed_function={"x": ["add"]}), GOLD, "/missed_function/x"),
        (changed(id="other"), GOLD, "/id"),
        (GOOD, {"multi_turn_base_0": [["add(a=f(1))"], []]}, "/ground_truth/0/0"),
        (GOOD, {"multi_turn_base_0": [["os.system('x')"], []]}, "/ground_truth/0/0"),
        (GOOD, {"multi_turn_base_0": [["add(a=1)"]]}, ""),
    ],
)
def test_a_bad_row_is_named(
    row: dict[str, JsonValue], gold: dict[str, JsonValue], pointer: str
) -> None:
    with pytest.raises(RowRefused) as refused:
        converted(row, gold)
    assert refused.value.pointer == pointer
    assert refused.value.detail


def test_unless_named_they_are_not_imported(tmp_path: Path) -> None:
    """They are episodes: a worker without the package could do nothing with them."""
    for category in TURNS:
        (tmp_path / f"BFCL_v4_{category}.json").write_text(json.dumps(GOOD))
    assert not set(TURNS) & {Category.SIMPLE_PYTHON, Category.LIVE_IRRELEVANCE}
    good = converted(GOOD, GOLD)
    assert good.environment is not None
    assert [len(turn) for turn in good.environment.user_turns] == [1]
