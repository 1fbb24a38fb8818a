"""ToolRL's rows as tasks: the real rows, Parquet beside JSON lines, and rows that are refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from jsonschema import Draft202012Validator

from etude_client.sources.files import file_rows
from etude_proto.rows.rlla import ToolsUnreadable, parse_tools, rlla_task
from etude_proto.rows.stream import DatasetUnusable, JsonObject, Row, RowFault
from etude_proto.rows.toolrl_gold import parse_gold
from etude_proto.v1 import Split, TaskCreate, ToolRLReference

THOUGHT = "<think> I should use a tool. </think>\n"
CALL = '{"name": "Add", "parameters": {"a": 1}}'
SYSTEM = (
    "You are helpful.\n\n**Available Tools**\nYou can use the following tools:\n"
    "1. Name: Add\nDescription: Adds.\nTwice over.\n"
    'Parameters: {"a": {"description": "", "type": "List[float]", "default": ""}}\n'
    "2. Name: Do nothing\nDescription: \nParameters: {}\n\n**Steps**\n1. **Think:** always."
)


def _row(**change: object) -> JsonObject:
    gold = f"{THOUGHT}<tool_call>\n{CALL}\n</tool_call>"
    row: dict[str, object] = {
        "data_source": "rlla",
        "prompt": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "**Dialogue Records History**\n<user> 1 + 0? </user>"},
        ],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": {"split": "sft", "index": 5},
    }
    return json.loads(json.dumps({**row, **change}))  # type: ignore[no-any-return]


def _gold(text: object) -> dict[str, object]:
    return {"reward_model": {"style": "rule", "ground_truth": text}}


def _lines(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared_data() -> Path:
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the project's shared data lies beside the repository; not here")
    return folder


@pytest.fixture(scope="module")
def train_tasks(shared_data: Path) -> list[TaskCreate]:
    rows = list(file_rows(shared_data / "rlla_train400.jsonl", rlla_task))
    assert [row.line for row in rows] == list(range(1, 401))
    return [row.task for row in rows if isinstance(row, Row)]


def test_all_400_rows_convert(train_tasks: list[TaskCreate]) -> None:
    assert len(train_tasks) == 400
    assert Counter(task.source for task in train_tasks) == {"rlla/sft": 400}
    num_subtasks = Counter(len(task.subtasks) for task in train_tasks)
    assert num_subtasks == {4: 336, 3: 10, 1: 54}, "346 rows with calls, 10 of them without K"


def test_prompt_and_gold_stay_as_given(shared_data: Path, train_tasks: list[TaskCreate]) -> None:
    text = (shared_data / "rlla_train400.jsonl").read_text(encoding="utf-8")
    for task, line in zip(train_tasks, text.splitlines(), strict=True):
        row = json.loads(line)
        assert [message.model_dump(exclude_none=True) for message in task.messages] == row["prompt"]
        assert isinstance(task.reference, ToolRLReference)
        assert task.reference.text == row["reward_model"]["ground_truth"]
        assert task.metadata["index"] == row["extra_info"]["index"]


def test_tools_of_all_rows_parse(train_tasks: list[TaskCreate]) -> None:
    assert sum(len(task.tools) for task in train_tasks) > 1000
    for task in train_tasks:
        assert task.metadata["tools_in_prompt"] is True
        assert "tools_note" not in task.metadata
        for tool in task.tools:
            Draft202012Validator.check_schema(tool.parameters)


def test_nearly_every_gold_call_is_among_the_parsed_tools(train_tasks: list[TaskCreate]) -> None:
    num_calls = num_offered = 0
    for task in train_tasks:
        assert isinstance(task.reference, ToolRLReference)
        names = {tool.name for tool in task.tools}
        for call in parse_gold(task.reference.text).calls:
            num_calls += 1
            num_offered += call["name"] in names
    assert num_calls - num_offered == 2, "one row cuts two names out of an SQL text"


def test_the_test_split_is_held_out(shared_data: Path) -> None:
    rows = list(
        file_rows(shared_data / "rlla_test80.jsonl", partial(rlla_task, held_out_share=0.0))
    )
    tasks = [row.task for row in rows if isinstance(row, Row)]
    assert len(tasks) == len(rows) == 80
    assert {task.split for task in tasks} == {Split.HELD_OUT}
    assert {task.source for task in tasks} == {"rlla/test"}


def test_parquet_gives_the_same_tasks(
    shared_data: Path, train_tasks: list[TaskCreate], tmp_path: Path
) -> None:
    text = (shared_data / "rlla_train400.jsonl").read_text(encoding="utf-8")
    table = pyarrow.Table.from_pylist([json.loads(line) for line in text.splitlines()])
    path = tmp_path / "no-suffix-needed"
    pyarrow.parquet.write_table(table, path, row_group_size=64)
    rows = list(file_rows(path, rlla_task))
    assert [row.line for row in rows] == list(range(1, 401))
    assert [row.task for row in rows if isinstance(row, Row)] == train_tasks


def test_parquet_rows_are_numbered_past_bad_ones(tmp_path: Path) -> None:
    rows = [_row() for _ in range(300)]
    rows[1] = _row(**_gold(None))
    rows[270] = _row(**_gold("<tool_call>\n{}\n</tool_call>"))
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    faults = [row for row in file_rows(path, rlla_task) if isinstance(row, RowFault)]
    assert [(fault.line, fault.pointer) for fault in faults] == [
        (2, "/reward_model/ground_truth"),
        (271, "/reward_model/ground_truth"),
    ]


def test_a_damaged_parquet_file_keeps_its_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [_row(extra_info={"split": "sft", "index": index}) for index in range(2000)]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(
        table, path, row_group_size=500, use_dictionary=False, compression="zstd"
    )
    damaged = bytearray(path.read_bytes())
    start = pyarrow.parquet.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    damaged[start : start + 200] = bytes(200)
    path.write_bytes(bytes(damaged))
    found = list(file_rows(path, rlla_task))
    assert all(isinstance(row, Row) for row in found[:-1])
    last = found[-1]
    assert isinstance(last, RowFault)
    assert last.line == len(found) <= 1001
    assert "unreadable from this row on" in last.detail


def test_a_truncated_parquet_file_is_unusable(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([_row()]), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetUnusable, match="as Parquet"):
        list(file_rows(path, rlla_task))


def test_a_row() -> None:
    task = rlla_task(_row())
    assert [tool.name for tool in task.tools] == ["Add", "Do nothing"]
    assert task.tools[0].description == "Adds.\nTwice over."
    assert task.tools[0].parameters == {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "number"}, "description": "", "default": ""}
        },
    }
    assert task.metadata == {"tools_in_prompt": True, "split": "sft", "index": 5}
    assert task.subtasks == ["format", "tool_name", "param_name", "param_value"]


def test_another_data_source_names_the_source() -> None:
    assert rlla_task(_row(data_source="xlam")).source == "rlla/xlam"
    assert rlla_task(_row(extra_info=None)).source == "rlla/default"


@pytest.mark.parametrize(
    ("system", "note"),
    [
        ("No tools here.", "no numbered tools in the system text"),
        ("1. Name: f\nDescription: d\nParameters: {oops}", "tools not parsed: tool 1"),
        ("1. Name: f\nParameters: {}", "tools not parsed: tool 1"),
        (
            "1. Name: f\nDescription: d\nParameters: {}\n3. Name: g\nDescription: \nParameters: {}",
            "tools not parsed: tool 2 has the number 3",
        ),
        (
            "1. Name: f\nDescription: d\nParameters: {}\n2. Name: g\nNothing else",
            "tools not parsed: tool 2",
        ),
    ],
)
def test_unparsed_tools_are_noted_and_the_row_stays(system: str, note: str) -> None:
    prompt = [{"role": "system", "content": system}, {"role": "user", "content": "Hello"}]
    task = rlla_task(_row(prompt=prompt))
    assert task.tools == []
    assert str(task.metadata["tools_note"]).startswith(note)
    assert task.messages[0].content == system


def test_a_whole_object_schema_is_taken_as_one() -> None:
    schema = '{"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]}'
    (tool,) = parse_tools(f"1. Name: f\nDescription: d\nParameters: {schema}")
    assert tool.parameters == {
        "type": "object",
        "properties": {"x": {"type": "number"}},
        "required": ["x"],
    }
    with pytest.raises(ToolsUnreadable, match="is no tool"):
        parse_tools(f"1. Name: {'f' * 300}\nDescription: d\nParameters: {{}}")


@pytest.mark.parametrize(
    ("change", "pointer", "reason"),
    [
        ({"prompt": "Hello"}, "/prompt", "expected an array of messages, found a string"),
        ({"prompt": []}, "/prompt", "at least 1 item"),
        ({"prompt": ["Hello"]}, "/prompt/0", "expected an object"),
        ({"prompt": [{"role": "user", "content": 7}]}, "/prompt/0/content", "valid string"),
        ({"prompt": [{"role": "user"}]}, "/prompt/0/content", "required"),
        (
            {"prompt": [{"role": "user", "content": "", "tool_calls": []}]},
            "/prompt/0/tool_calls",
            "unknown field",
        ),
        ({"reward_model": None}, "/reward_model/ground_truth", "found null"),
        (_gold([{"name": "Add"}]), "/reward_model/ground_truth", "found an array"),
        (_gold(""), "/reward_model/ground_truth", "at least 1 character"),
        ({"data_source": "a\tb"}, "/data_source", "pattern"),
    ],
)
def test_bad_rows_are_told(
    change: dict[str, object], pointer: str, reason: str, tmp_path: Path
) -> None:
    path = _lines(tmp_path / "rows.jsonl", [_row(), _row(**change), _row()])
    first, fault, last = file_rows(path, rlla_task)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(fault, RowFault)
    assert (fault.line, fault.pointer) == (2, pointer)
    assert reason in fault.detail
