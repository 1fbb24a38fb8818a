"""BFCL gold on BFCL's own rows: agreement with the official checker.

The rows are those of the installed ``bfcl-eval`` package. Two things are compared with its
``ast_checker``: completions built from gold, and thousands of damaged ones. Every disagreement
must be of a kind explained in :func:`explained`.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import bfcl_eval
import pytest

from etude_rollout.rewards import Gold, RewardConfig, Scored, gold_from_task, score_completion

DATA = Path(bfcl_eval.__file__).parent / "data"
CATEGORIES = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
)
OTHER_DAMAGE = ("rename", "repeat", "drop", "shuffle", "remove", "add", "another")
Calls = list[tuple[str, dict[str, Any]]]


class Row(NamedTuple):
    category: str
    id: str
    functions: list[dict[str, Any]]
    answer: list[dict[str, dict[str, list[Any]]]]


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def read_rows() -> list[Row]:
    rows = []
    for category in CATEGORIES:
        name = f"BFCL_v4_{category}.json"
        functions = {row["id"]: row["function"] for row in json_lines(DATA / name)}
        for answer in json_lines(DATA / "possible_answer" / name):
            truth = answer["ground_truth"]
            rows.append(Row(category, answer["id"], functions[answer["id"]], truth))
    return rows


ROWS = read_rows()


def score(calls: Calls, gold: Gold) -> Scored:
    lines = "\n".join(json.dumps({"name": name, "parameters": given}) for name, given in calls)
    text = f"<think>x</think>\n<tool_call>\n{lines}\n</tool_call>"
    return score_completion(text, gold, config=RewardConfig())


def first(allowed: list[object]) -> object:
    """The first allowed value that is not the mark of absence."""
    return next(value for value in allowed if value != "")


def filled(value: object) -> object:
    """An allowed value with objects of allowed values made into plain objects."""
    if isinstance(value, dict):
        return {
            key: first(allowed) for key, allowed in value.items() if any(x != "" for x in allowed)
        }
    if isinstance(value, list):
        return [filled(item) if isinstance(item, dict) else item for item in value]
    return value


def built(row: Row, *, sparse: bool) -> Calls:
    """Calls made from the gold; sparse: without the arguments that may be absent."""
    calls: Calls = []
    for call in row.answer:
        ((name, arguments),) = call.items()
        given: dict[str, Any] = {}
        for argument, allowed in arguments.items():
            if allowed == []:
                given[argument] = []
            elif any(value != "" for value in allowed) and not (sparse and "" in allowed):
                given[argument] = filled(first(allowed))
        calls.append((name, given))
    return calls


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> Callable[[Row, Calls], bool]:
    """BFCL's checker, whose import of every vendor's client is answered by a small module."""
    models = ModuleType("bfcl_eval.constants.model_config")
    default = SimpleNamespace(underscore_to_dot=False)
    models.__dict__["MODEL_CONFIG_MAPPING"] = defaultdict(lambda: default)
    monkeypatch.setitem(sys.modules, models.__name__, models)
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    def valid(row: Row, calls: Calls) -> bool:
        given = [{name: arguments} for name, arguments in calls]
        try:
            result = ast_checker(
                row.functions, given, row.answer, Language.PYTHON, row.category, "model"
            )
        except (KeyError, AttributeError, TypeError):  # it crashes on values of odd types
            return False
        return bool(result["valid"])

    return valid


def schema_of(row: Row, name: str) -> dict[str, Any]:
    functions = [each for each in row.functions if each["name"] == name]
    return functions[0]["parameters"] if functions else {"properties": {}, "required": []}


def explained(row: Row, calls: Calls) -> bool:
    """Whether our verdict may differ: what the tool's schema adds, or Python's looser equality.

    1. The schema requires an argument that the gold lets be absent, or the gold has an argument
       that the schema does not know, or nothing is allowed: the checker accepts no such call.
    2. The schema's type is not string, but a string is listed (compared without normalisation
       there), or an empty string is given where null is listed.
    3. Inside an object the checker compares with Python's ==, where 0 is False.
    """
    for call in row.answer:
        ((name, arguments),) = call.items()
        schema = schema_of(row, name)
        required, properties = schema.get("required", []), schema["properties"]
        if any("" in arguments.get(key, [""]) for key in required):
            return True
        if any(key not in properties or allowed == [] for key, allowed in arguments.items()):
            return True
        if any(
            properties[key]["type"] != "string" and any(isinstance(x, str) for x in allowed)
            for key, allowed in arguments.items()
        ):
            return True
    return any(
        isinstance(value, dict) and any(type(x) in (bool, int) for x in value.values())
        for _, given in calls
        for value in given.values()
    )


def test_gold_scores_itself_on_every_row(checker: Callable[[Row, Calls], bool]) -> None:
    refused = set()
    for row in ROWS:
        gold = gold_from_task({"kind": "bfcl", "calls": row.answer})
        for sparse in (False, True):
            calls = built(row, sparse=sparse)
            scored = score(calls, gold)
            assert scored.success, (row.id, scored)
            assert scored.total == 4
            if not checker(row, calls):
                assert explained(row, calls), row.id
                refused.add((row.id, sparse))
    assert len(ROWS) == 2311
    assert sum(not sparse for _, sparse in refused) == 7, "rows that BFCL's checker never accepts"


@pytest.mark.parametrize("category", ["irrelevance", "live_irrelevance"])
def test_irrelevance_asks_for_a_response(category: str) -> None:
    assert sum(1 for _ in json_lines(DATA / f"BFCL_v4_{category}.json")) > 200
    gold = gold_from_task({"kind": "response"})
    answer = "<think>No tool fits.</think>\n<response>I cannot do that.</response>"
    scored = score_completion(answer, gold, config=RewardConfig())
    assert scored.success
    assert scored.total == 1
    assert score([("f", {})], gold).total == 0


def test_agreement_on_damaged_completions(checker: Callable[[Row, Calls], bool]) -> None:
    rng = random.Random(20260311)
    verdicts: Counter[tuple[bool, bool]] = Counter()
    for row in ROWS * 2:
        gold = gold_from_task({"kind": "bfcl", "calls": row.answer})
        calls = damaged(built(row, sparse=rng.random() < 0.5), row, rng)
        ours, theirs = score(calls, gold).success, checker(row, calls)
        verdicts[ours, theirs] += 1
        assert ours == theirs or explained(row, calls), (row, calls, ours)
    agreed = verdicts[True, True] + verdicts[False, False]
    assert agreed / verdicts.total() > 0.99, verdicts
    assert min(verdicts[True, True], verdicts[False, False]) > 1000, "both verdicts are common"


def damaged(calls: Calls, row: Row, rng: random.Random) -> Calls:
    """Calls with one thing changed, which may or may not matter."""
    at = rng.randrange(len(calls))
    name, given = calls[at]
    given = dict(given)
    kind = rng.choice([*OTHER_DAMAGE, *["value"] * 8])
    if kind == "repeat":
        return [*calls, calls[at]]
    if kind == "drop":
        return calls[:at] + calls[at + 1 :]
    if kind == "shuffle":
        return rng.sample(calls, len(calls))
    if kind == "rename":
        name += "_x"
    elif kind == "add":
        given["unlisted"] = 1
    elif kind == "another":
        allowed = {key: values for key, values in row.answer[at][name].items() if values}
        if allowed:
            key = rng.choice(list(allowed))
            given[key] = filled(rng.choice(allowed[key]))
    elif given:
        key = rng.choice(list(given))
        old = given.pop(key)
        if kind == "value":
            given[key] = changed(old, rng)
    return [*calls[:at], (name, given), *calls[at + 1 :]]


def changed(value: object, rng: random.Random) -> object:
    """A value like the given one: equal for some rules of comparison, or just wrong."""
    choices: list[object]
    if isinstance(value, bool):
        choices = [not value, str(value), int(value)]
    elif isinstance(value, int):
        choices = [value + 1, float(value), str(value), -value, True]
    elif isinstance(value, float):
        whole = int(value) if math.isfinite(value) else 0
        choices = [value + 0.5, whole, str(value)]
    elif isinstance(value, str):
        choices = [value.upper(), value + " ", value + "x", "", value.replace(",", "")]
        choices += [value + ".", value.replace("'", '"'), [value], 0, None]
    elif isinstance(value, list) and value:
        at = rng.randrange(len(value))
        one_changed = [*value[:at], changed(value[at], rng), *value[at + 1 :]]
        choices = [value[1:], [*value, value[0]], rng.sample(value, len(value)), one_changed]
    elif isinstance(value, dict) and value:
        key = rng.choice(list(value))
        rest = {other: item for other, item in value.items() if other != key}
        choices = [rest, {**value, "unlisted": 1}, {**rest, key: changed(value[key], rng)}]
    else:
        choices = [0, "", None, [1], {"unlisted": 1}]
    return rng.choice(choices)
