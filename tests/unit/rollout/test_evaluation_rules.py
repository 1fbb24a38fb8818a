"""API-Bank's rule, how calls are read, and intervals."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_rollout.evaluation.api_bank import ApiBank
from etude_rollout.evaluation.calls import objects_in
from etude_rollout.evaluation.intervals import Z_95, Estimate, weighted_mean, wilson
from etude_rollout.evaluation.items import EvaluationError
from support.evaluations import api_bank_rows
from support.shared_data import SHARED_DATA

GOLD = '{"name": "Add", "parameters": {"a": "1", "b": "2"}}'


def judged(folder: Path, level: int, text: str) -> bool:
    bank = ApiBank(folder)
    item = next(item for item in bank.items() if item.domain == f"level-{level}")
    return bank.check(item, text).is_right


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        (f"<think>x</think>\n<tool_call>\n{GOLD}\n</tool_call>", True),
        (f"<tool_call>{GOLD}</tool_call>", True),
        (f'<tool_call>\n{{"name": "g", "parameters": {{}}}}\n{GOLD}\n', True),
        (f"<tool_call>\nnot JSON\n{GOLD}", True),
        (f"<tool_call>\n{GOLD}\n</tool_call>\n<tool_call>\nnothing", False),
        (GOLD, False),
        ("<tool_call>\n" + GOLD.replace('"2"', '"3"'), False),
        ("<tool_call>\n" + GOLD.replace('"2"', "2"), False),
        (f"<tool_call>\n{GOLD.replace('Add', 'Sub')}", False),
        (f"<tool_call>\n{GOLD.replace('parameters', 'arguments')}", False),
        ('<tool_call>\n{"a": "1", "b": "2"}', False),
        (f"<tool_call>\n[{GOLD}]", False),
        ("", False),
    ],
)
def test_right_iff_any_call_is_the_gold(
    tmp_path: Path, level: int, text: str, is_right: bool
) -> None:
    # Level 2 writes its gold as an object, the others as a list of one.
    assert judged(api_bank_rows(tmp_path), level, text) == is_right


def test_python_equality_and_gold_without_a_name(tmp_path: Path) -> None:
    folder = api_bank_rows(tmp_path, answer={"a": 1})
    assert judged(folder, 1, '<tool_call>\n{"name": "any", "parameters": {"a": true}}')
    assert judged(folder, 1, '<tool_call>\n{"a": 1.0}')
    assert not judged(folder, 1, '<tool_call>\n{"a": "1"}')


def test_the_published_number_is_the_micro_average() -> None:
    bank = ApiBank(SHARED_DATA / "api_bank")
    assert bank.sizes == {"level-1": 399, "level-2": 67, "level-3": 131}
    (overall,) = bank.groups
    right = {"level-1": (293, 399), "level-2": (45, 67), "level-3": (62, 131)}
    mean = weighted_mean((overall.weights[name], wilson(*right[name])) for name in right)
    assert round(100 * mean.value, 2) == 67.00
    assert round(100 * sum(wilson(*each).value for each in right.values()) / 3, 2) == 62.64


def test_every_shared_gold_is_right() -> None:
    bank = ApiBank(SHARED_DATA / "api_bank")
    assert all(bank.check(item, bank.gold_answers(item)[0]).is_right for item in bank.items())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[", "no JSON list"),
        ('[{"system": "s", "user": 1, "answer": {}}]', "row 0: system and user"),
        ('[{"system": "s", "user": "u", "answer": []}]', "row 0: answer"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, content: str, told: str) -> None:
    folder = api_bank_rows(tmp_path)
    (folder / "level-2-api_processed.json").write_text(content)
    with pytest.raises(EvaluationError, match=told):
        ApiBank(folder)
    (folder / "level-3-api_processed.json").unlink()
    (folder / "level-2-api_processed.json").write_text("[]")
    with pytest.raises(EvaluationError, match=r"level-3.*No such file"):
        ApiBank(folder)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert all(isinstance(each, dict) for each in objects_in(f"<tool_call>{text}"))


def test_deeply_nested_text_is_no_call() -> None:
    assert objects_in("<tool_call>\n" + '{"a":' * 100_000) == []


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_where_the_score_test_does(counts: tuple[int, int]) -> None:
    num_right, num_items = counts
    estimate = wilson(num_right, num_items)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    for edge in (estimate.low, estimate.high):
        if 1e-9 < edge < 1 - 1e-9:
            score = (estimate.value - edge) / sqrt(edge * (1 - edge) / num_items)
            assert abs(score) == pytest.approx(Z_95, rel=1e-6)


def test_means_of_shares() -> None:
    part = wilson(30, 40)
    same = weighted_mean([(1.0, part)])
    assert (same.value, same.low) == pytest.approx((part.value, part.low))
    halves = weighted_mean([(0.5, Estimate(0.5, 0.4, 0.6)), (0.5, Estimate(0.5, 0.4, 0.6))])
    assert halves.high - halves.value == pytest.approx(0.1 / sqrt(2))
    nothing_right = weighted_mean([(0.5, wilson(0, 10)), (0.5, wilson(0, 10))])
    assert nothing_right.low == 0.0
    assert nothing_right.high > 0.1, "no success in 20 is no proof of none"


@pytest.mark.parametrize(("num_right", "num_items"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(num_right: int, num_items: int) -> None:
    with pytest.raises(ValueError, match="right of"):
        wilson(num_right, num_items)


def test_rows_of_the_tests_have_the_shape_of_the_shared_ones(tmp_path: Path) -> None:
    def shape(folder: Path, level: int) -> tuple[list[str], type]:
        row = json.loads((folder / f"level-{level}-api_processed.json").read_text())[0]
        return sorted(row), type(row["answer"])

    ours = api_bank_rows(tmp_path)
    for level in (1, 2, 3):
        assert shape(ours, level) == shape(SHARED_DATA / "api_bank", level)
