"""BFCL through prompt, answer, parser and the package's checker; rows that no answer gets right.

The most important check of the evaluation is the first: the gold of every row, written as an answer
and read back, is right, but for rows that are listed here with the reason.
"""

from __future__ import annotations

import json
from functools import cache

import pytest

from etude_proto.rows.bfcl import Category
from etude_proto.rows.stream import Row
from etude_proto.v1 import Split
from etude_rollout.evaluation.bfcl import Bfcl, categories_of, predicted_calls
from etude_rollout.evaluation.bfcl_data import ALL, IMPORTED, SINGLE_TURN
from etude_rollout.evaluation.bfcl_scores import groups_of
from etude_rollout.evaluation.calls import answer_text
from etude_rollout.evaluation.items import EvaluationError, Item
from etude_sampler.datasets.bfcl import bfcl_rows, installed_data

STRINGS_IN_ARRAYS = "the checker compares strings in a Java array with their quotes"
MIXED_LISTS = "the checker reads every element of a Java list of any type as text"
NEVER_RIGHT = {
    **{f"simple_java_{n}": STRINGS_IN_ARRAYS for n in (35, 78, 83, 85, 86, 89, 90, 91)},
    **{f"simple_java_{n}": MIXED_LISTS for n in (36, 65)},
    "simple_java_64": "the gold's map holds text where the checker wants lists of allowed values",
    "live_simple_106-63-0": "an array without any listed value is accepted by no rule",
    "live_simple_112-68-0": "an array without any listed value is accepted by no rule",
    "live_multiple_507-149-4": "the gold lets a required argument be absent only",
    "live_multiple_862-181-3": "the gold demands an argument that the tool does not have",
    "live_multiple_964-207-0": "the gold lacks a required argument",
}


@cache
def everything() -> Bfcl:
    return Bfcl(SINGLE_TURN)


def item_of(item_id: str) -> Item:
    return next(item for item in everything().items() if item.id == item_id)


def test_gold_is_right_on_every_row_but_those_listed() -> None:
    bench = everything()
    wrong = {
        item.id
        for item in bench.items()
        if not bench.check(item, bench.gold_answers(item)[0]).is_right
    }
    assert wrong == set(NEVER_RIGHT)
    assert sum(bench.sizes.values()) == 3641
    assert bench.sizes["live_multiple"] == 1053


def test_each_gold_is_wrong_for_another_row() -> None:
    bench = everything()
    with_calls = [item for item in bench.items() if "relevance" not in item.domain]
    shifted = [*with_calls[7:], *with_calls[:7]]
    num_right = sum(
        bench.check(item, bench.gold_answers(other)[0]).is_right
        for item, other in zip(with_calls, shifted, strict=True)
    )
    assert num_right < 0.02 * len(with_calls), "some neighbours ask the same"


SIMPLE = "simple_python_0"
TRIANGLE: dict[str, object] = {"base": 10, "height": 5, "unit": "units"}


@pytest.mark.parametrize(
    ("calls", "is_right"),
    [
        ([TRIANGLE], True),
        ([{"base": 10, "height": 5}], True),
        ([{"base": "10", "height": 5}], False),
        ([{"base": 10, "height": 6}], False),
        ([{"base": 10}], False),
        ([{**TRIANGLE, "colour": "red"}], False),
        ([TRIANGLE, TRIANGLE], False),
        ([], False),
    ],
)
def test_rules_of_a_single_call(calls: list[dict[str, object]], is_right: bool) -> None:
    lines = [json.dumps({"name": "calculate_triangle_area", "parameters": c}) for c in calls]
    text = "\n".join(["<tool_call>", *lines, "</tool_call>"])
    assert everything().check(item_of(SIMPLE), text).is_right == is_right


def test_parallel_calls_in_any_order() -> None:
    bench = everything()
    item = item_of("parallel_0")
    lines = bench.gold_answers(item)[0].split("\n")
    first, second = lines[2:4]
    for block, is_right in (
        ([second, first], True),
        ([first], False),
        ([first, first], False),
        ([first, second, first], False),
    ):
        text = "\n".join(["<tool_call>", *block, "</tool_call>"])
        assert bench.check(item, text).is_right == is_right, block


@pytest.mark.parametrize(
    ("text", "calls_something"),
    [
        ("<response> I cannot. </response>", False),
        (answer_text([("None", {})]), False),
        (answer_text([("f", {})]), True),
        (answer_text([("None", {}), ("f", {})]), True),
        ('<tool_call>\n{"name": "f"}', False),
        ('<tool_call>\n{"name": 3, "parameters": {}}', False),
    ],
)
def test_call_or_no_call(text: str, calls_something: bool) -> None:
    bench = everything()
    assert bool(predicted_calls(text)) == calls_something
    assert bench.check(item_of("irrelevance_0"), text).is_right == (not calls_something)
    assert bench.check(item_of("live_irrelevance_0-0-0"), text).is_right == (not calls_something)
    assert bench.check(item_of("live_relevance_0-0-0"), text).is_right == calls_something


def test_values_that_crash_the_checker_are_wrong() -> None:
    odd = {"name": "calculate_triangle_area", "parameters": {"base": {"a": [1]}, "height": [[1]]}}
    text = f"<tool_call>\n{json.dumps(odd)}"
    verdict = everything().check(item_of(SIMPLE), text)
    assert not verdict.is_right
    assert verdict.reason


def test_the_split_is_that_of_the_import() -> None:
    imported: dict[str, Split] = {}
    for row in bfcl_rows(
        installed_data(), [Category(name) for name in IMPORTED if name in SINGLE_TURN]
    ):
        assert isinstance(row, Row)
        imported[str(row.task.metadata["bfcl_id"])] = row.task.split
    for item in everything().items():
        if item.domain in IMPORTED:
            assert item.id in imported
            assert item.split == imported[item.id].value
        else:
            assert item.split is None
    held_out = Bfcl(("simple_python", "live_parallel"), split="held_out")
    assert held_out.sizes == {"simple_python": 76, "live_parallel": 16}


def test_prompts_show_schemas_that_models_know() -> None:
    kinds: set[object] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            kinds.add(node["type"] if isinstance(node.get("type"), str) else None)
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    bench = everything()
    for item in bench.items():
        if "java" not in item.domain:
            for tool in item.tools:
                walk(tool.parameters.get("properties"))
    assert not kinds & {"dict", "float", "tuple", "any"}
    assert {"object", "number", "array", "string", "integer", "boolean", None} <= kinds
    java = item_of("simple_java_0").tools[0].parameters["properties"]
    assert isinstance(java, dict)
    assert all(isinstance(each, dict) and each["type"] == "string" for each in java.values())


def test_the_way_out_is_named_on_request() -> None:
    said = item_of(SIMPLE).messages[-1].content
    bare = Bfcl(("simple_python",), hint=False)
    assert bare.items()[0].messages[-1].content == said.splitlines()[0]
    assert '"None"' in said
    assert bare.data != everything().data


def test_categories_and_their_means() -> None:
    assert categories_of("all") == ALL
    assert categories_of("live_simple, simple_python") == ("simple_python", "live_simple")
    with pytest.raises(EvaluationError, match="no category 'simple'; there are all, "):
        categories_of("simple")
    assert [group.name for group in groups_of(dict.fromkeys(ALL, 1))] == [
        "non_live",
        "live",
        "multi_turn",
        "single_turn",
        "overall",
    ]
    names = {group.name: group for group in everything().groups}
    assert list(names) == ["non_live", "live", "single_turn"]
    for group in names.values():
        assert sum(group.weights.values()) == pytest.approx(1)
    assert names["non_live"].weights["simple_java"] == pytest.approx(1 / 15)
    assert names["non_live"].weights["irrelevance"] == pytest.approx(1 / 5)
    assert names["live"].weights["live_multiple"] == pytest.approx(1053 / 2251)
    assert Bfcl(("live_simple",)).groups == []
