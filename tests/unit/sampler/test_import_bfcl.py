"""BFCL's real rows as tasks: counts, gold, schemas, split; and rows that are refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from etude_proto.rows.bfcl import SINGLE_TURN, Category
from etude_proto.rows.stream import DatasetUnusable, Row, RowFault
from etude_proto.v1 import BFCLReference, ResponseReference, Split, TaskCreate, task_id
from etude_sampler.datasets import bfcl
from etude_sampler.datasets.bfcl import bfcl_rows, count_bfcl_rows, installed_data

ROWS = {
    Category.SIMPLE_PYTHON: 400,
    Category.MULTIPLE: 200,
    Category.PARALLEL: 200,
    Category.PARALLEL_MULTIPLE: 200,
    Category.LIVE_SIMPLE: 258,
    Category.LIVE_MULTIPLE: 1053,
    Category.IRRELEVANCE: 240,
    Category.LIVE_IRRELEVANCE: 884,
}
"""Rows of each file (platform.md 6)."""

GOLDEN_HELD_OUT = ["simple_python_9", "simple_python_14", "simple_python_21", "simple_python_29"]
"""The first rows that the default share holds out."""


@pytest.fixture(scope="module")
def tasks() -> list[TaskCreate]:
    rows = list(bfcl_rows(installed_data()))
    assert not [row for row in rows if isinstance(row, RowFault)]
    return [row.task for row in rows if isinstance(row, Row)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with one good question of each of two categories."""
    question = {
        "id": "simple_python_0",
        "question": [[{"role": "user", "content": "Area of a 2 by 3 rectangle?"}]],
        "function": [{"name": "area", "description": "", "parameters": {"type": "dict"}}],
    }
    answer = {"id": "simple_python_0", "ground_truth": [{"area": {"a": [2], "b": [3, ""]}}]}
    (tmp_path / "possible_answer").mkdir()
    _write(tmp_path / "BFCL_v4_simple_python.json", question)
    _write(tmp_path / "possible_answer" / "BFCL_v4_simple_python.json", answer)
    _write(tmp_path / "BFCL_v4_irrelevance.json", {**question, "id": "irrelevance_0"})
    return tmp_path


def _write(path: Path, *rows: object) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _only_fault(folder: Path, category: Category = Category.SIMPLE_PYTHON) -> RowFault:
    (fault,) = bfcl_rows(folder, [category])
    assert isinstance(fault, RowFault)
    return fault


def test_every_row_of_every_category_converts(tasks: list[TaskCreate]) -> None:
    expected = {f"bfcl/{category}": num_rows for category, num_rows in ROWS.items()}
    assert Counter(task.source for task in tasks) == expected
    assert count_bfcl_rows(installed_data(), SINGLE_TURN) == sum(ROWS.values()) == len(tasks)


def test_three_rows_are_repeated_word_for_word(tasks: list[TaskCreate]) -> None:
    assert len({task_id(task) for task in tasks}) == len(tasks) - 3


def test_gold_is_what_the_answers_say(tasks: list[TaskCreate]) -> None:
    answers: dict[str, object] = {}
    for category in Category:
        if category.has_gold_calls:
            name = f"BFCL_v4_{category}.json"
            text = (installed_data() / "possible_answer" / name).read_text(encoding="utf-8")
            for line in text.splitlines():
                row = json.loads(line)
                answers[row["id"]] = row["ground_truth"]
    for task in tasks:
        gold = answers.get(str(task.metadata["bfcl_id"]))
        if isinstance(task.reference, BFCLReference):
            assert task.reference.calls == gold
        else:
            assert task.reference == ResponseReference()
            assert gold is None


def test_every_schema_is_valid(tasks: list[TaskCreate]) -> None:
    schemas = {
        json.dumps(tool.parameters): tool.parameters for task in tasks for tool in task.tools
    }
    assert len(schemas) > 1000
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"


def test_gold_values_satisfy_the_schemas(tasks: list[TaskCreate]) -> None:
    """Nearly all do: the exceptions are BFCL's own (variables as text, misspelt arguments)."""
    num_valid = num_all = 0
    for task in tasks:
        if not isinstance(task.reference, BFCLReference):
            continue
        schemas = {tool.name: tool.parameters for tool in task.tools}
        for call in task.reference.calls:
            for name, arguments in call.items():
                schema = schemas[name]["properties"]
                assert isinstance(schema, dict)
                for argument, allowed in arguments.items():
                    node = schema.get(argument)
                    checker = Draft202012Validator(node if isinstance(node, dict) else False)
                    for value in allowed:
                        if value != "" and not isinstance(value, dict | list):
                            num_all += 1
                            num_valid += checker.is_valid(value)
    assert num_all > 5000
    assert num_valid / num_all > 0.95


def test_messages_stay_as_given(tasks: list[TaskCreate]) -> None:
    text = (installed_data() / "BFCL_v4_live_multiple.json").read_text(encoding="utf-8")
    questions = [json.loads(line)["question"] for line in text.splitlines()]
    found = [task for task in tasks if task.source == "bfcl/live_multiple"]
    for task, question in zip(found, questions, strict=True):
        assert [message.model_dump(exclude_none=True) for message in task.messages] == question[0]


def test_tasks_say_that_they_are_an_evaluation_set(tasks: list[TaskCreate]) -> None:
    assert tasks[0].metadata == {
        "bfcl_id": "simple_python_0",
        "category": "simple_python",
        "evaluation_set": "bfcl_v4",
    }


def test_split_is_the_same_every_time(tasks: list[TaskCreate]) -> None:
    """Golden: a changed salt or hash would mix trained and held-out rows."""
    again = [row.task for row in bfcl_rows(installed_data()) if isinstance(row, Row)]
    assert again == tasks
    held_out = [task for task in tasks if task.split is Split.HELD_OUT]
    assert 0.17 < len(held_out) / len(tasks) < 0.23
    assert [str(task.metadata["bfcl_id"]) for task in held_out[:4]] == GOLDEN_HELD_OUT


def test_no_question_is_on_both_sides(tasks: list[TaskCreate]) -> None:
    sides: dict[str, set[Split]] = {}
    for task in tasks:
        question = json.dumps([message.content for message in task.messages])
        sides.setdefault(question, set()).add(task.split)
    assert len(sides) < len(tasks) - 3, "some questions come back with other tools"
    assert all(len(splits) == 1 for splits in sides.values())


def test_a_larger_share_only_adds_to_the_held_out_part(tasks: list[TaskCreate]) -> None:
    wider = bfcl_rows(installed_data(), held_out_share=0.5)
    for task, row in zip(tasks, wider, strict=True):
        assert isinstance(row, Row)
        assert task.split is Split.TRAIN or row.task.split is Split.HELD_OUT
    none = bfcl_rows(installed_data(), [Category.PARALLEL], held_out_share=0.0)
    assert all(isinstance(row, Row) and row.task.split is Split.TRAIN for row in none)
    every = bfcl_rows(installed_data(), [Category.PARALLEL], held_out_share=1.0)
    assert all(isinstance(row, Row) and row.task.split is Split.HELD_OUT for row in every)


def test_types_are_mapped_at_every_depth(tasks: list[TaskCreate]) -> None:
    names = {"dict", "float", "tuple", "any"}

    def types(node: object) -> set[str]:
        if isinstance(node, list):
            return set().union(*(types(item) for item in node)) if node else set()
        if not isinstance(node, dict):
            return set()
        own = {node["type"]} if isinstance(node.get("type"), str) else set()
        children = [item for key, item in node.items() if key not in {"default", "enum"}]
        return own | types(children)

    seen = set().union(*(types(tool.parameters) for task in tasks for tool in task.tools))
    assert not seen & names
    assert {"object", "number", "array", "string", "integer", "boolean"} <= seen


def test_a_good_folder(folder: Path) -> None:
    rows = list(bfcl_rows(folder, [Category.SIMPLE_PYTHON, Category.IRRELEVANCE]))
    assert [(row.line, row.origin) for row in rows] == [
        (1, "BFCL_v4_simple_python.json"),
        (1, "BFCL_v4_irrelevance.json"),
    ]
    first, second = (row.task for row in rows if isinstance(row, Row))
    assert first.subtasks == ["format", "tool_name", "param_name", "param_value"]
    assert second.subtasks == ["format"]


def test_missing_answer_is_told(folder: Path) -> None:
    _write(folder / "possible_answer" / "BFCL_v4_simple_python.json", {"id": "simple_python_1"})
    fault = _only_fault(folder)
    assert (fault.line, fault.pointer) == (1, "/id")
    assert "possible answers" in fault.detail


@pytest.mark.parametrize(
    ("gold", "pointer"),
    [
        ([], "/ground_truth"),
        ([{"area": {"a": 2}}], "/ground_truth/0/area/a"),
        ([{"area": {"a": [2]}, "volume": {}}], "/ground_truth/0"),
        (None, "/ground_truth"),
    ],
)
def test_bad_gold_is_told(folder: Path, gold: object, pointer: str) -> None:
    row = {"id": "simple_python_0", "ground_truth": gold}
    _write(folder / "possible_answer" / "BFCL_v4_simple_python.json", row)
    assert _only_fault(folder).pointer == pointer


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"id": 7}, "/id"),
        ({"question": []}, "/question"),
        ({"question": [[], []]}, "/question"),
        ({"question": [[{"role": "user"}]]}, "/question/0/0/content"),
        ({"question": [[{"role": "robot", "content": ""}]]}, "/question/0/0/role"),
        ({"function": {}}, "/function"),
        ({"function": ["area"]}, "/function/0"),
        ({"function": [{"name": "", "parameters": {}}]}, "/function/0/name"),
        ({"function": [{"name": "f", "parameters": []}]}, "/function/0/parameters"),
    ],
)
def test_bad_questions_are_told(folder: Path, change: dict[str, object], pointer: str) -> None:
    path = folder / "BFCL_v4_irrelevance.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    _write(path, {**row, **change})
    fault = _only_fault(folder, Category.IRRELEVANCE)
    assert (fault.line, fault.pointer, fault.origin) == (1, pointer, path.name)


def test_missing_file_and_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetUnusable, match=r"BFCL_v4_parallel\.json"):
        list(bfcl_rows(tmp_path, [Category.PARALLEL]))
    monkeypatch.setattr(bfcl, "PACKAGE", "bfcl_eval_that_nobody_installed")
    with pytest.raises(DatasetUnusable, match=r"pip install --no-deps bfcl-eval==2026\.3\.23"):
        installed_data()
