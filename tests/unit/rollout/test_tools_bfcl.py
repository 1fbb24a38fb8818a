"""BFCL's services: the package's own multi-turn checker says the same as ours, row by row."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bfcl_eval
import pytest
from bfcl_eval.constants.executable_backend_config import CLASS_FILE_PATH_MAPPING
from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker
from pydantic import JsonValue

from etude_proto.v1 import BfclConfig, BfclEnvironment, Message
from etude_proto.v1.environments import gold_call
from etude_rollout.tools.base import ToolCall
from etude_rollout.tools.opening import Environments
from support.tool_environments import opening, session

DATA = Path(bfcl_eval.__file__).parent / "data"
CATEGORIES = ("base", "long_context", "miss_func", "miss_param")
EVERY = 25
"""Every so many rows of a category are played (1: all, in minutes)."""
Row = dict[str, Any]


def rows() -> list[Row]:
    found = []
    for category in CATEGORIES:
        name = f"BFCL_v4_multi_turn_{category}.json"
        questions = (DATA / name).read_text().splitlines()
        answers = (DATA / "possible_answer" / name).read_text().splitlines()
        gold = {row["id"]: row["ground_truth"] for row in map(json.loads, answers)}
        found += [{**json.loads(line), "gold": gold[json.loads(line)["id"]]} for line in questions]
    return found[::EVERY]


def environment(row: Row) -> BfclEnvironment:
    later = [[Message(**one) for one in turn] for turn in row["question"][1:]]
    config = BfclConfig(
        classes=row["involved_classes"],
        initial_config=row["initial_config"],
        long_context="long_context" in row["id"],
        withheld=row.get("missed_function", {}),
    )
    return BfclEnvironment(config=config, user_turns=later)


def named(row: Row, text: str) -> ToolCall:
    """A gold call with all its arguments by name, as a policy would make it."""
    name, args, words = gold_call(text)
    for class_name in row["involved_classes"]:
        module = importlib.import_module(CLASS_FILE_PATH_MAPPING[class_name])
        method = getattr(getattr(module, class_name), name, None)
        if method is not None and args:
            names = list(inspect.signature(method).parameters)[1:]
            words = {**dict(zip(names, args, strict=False)), **words}
    parameters: dict[str, JsonValue] = json.loads(json.dumps(words))
    return ToolCall(name, parameters)


def less(turns: Sequence[Sequence[str]], number: int) -> list[list[str]]:
    """The calls without one of them."""
    flat = [(i, text) for i, turn in enumerate(turns) for text in turn]
    del flat[number % len(flat)]
    return [[text for i, text in flat if i == turn] for turn in range(len(turns))]


def checked_by_bfcl(row: Row, turns: Sequence[Sequence[str]], name: str) -> bool:
    """The package's verdict on calls, a step a call."""
    steps = [[[text] for text in turn] for turn in turns]
    verdict = multi_turn_checker(steps, row["gold"], row, "multi_turn", name)
    return bool(verdict["valid"])


async def checked_by_us(made: Environments, row: Row, turns: Sequence[Sequence[str]]) -> bool:
    async with session(made, opening(environment(row), gold=row["gold"])) as services:
        for number, turn in enumerate(turns):
            if number:
                await services.next_request(number)
            for text in turn:
                await services.call(named(row, text))
            await services.end_request()
        judged = await services.judge()
    assert all(0.0 <= value <= 1.0 for value in judged.values())
    return judged == {"state": 1.0, "response": 1.0}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["id"])
async def test_verdicts_are_the_packages_own(made: Environments, row: Row) -> None:
    """On the gold calls, and with any one of them left out."""
    played = {"gold": row["gold"], "less": less(row["gold"], 3), "fewer": less(row["gold"], 1)}
    played["none"] = [[] for _ in row["gold"]]
    for name, turns in played.items():
        ours = await checked_by_us(made, row, turns)
        assert ours is checked_by_bfcl(row, turns, f"etude_{name}"), (name, turns)
        if name in ("gold", "none"):
            assert ours is (name == "gold")
