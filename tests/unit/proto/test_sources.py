"""Rows from wherever people have them: the same rows give the same tasks, faults name their row."""

from __future__ import annotations

import builtins
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_client.curriculum.rows import line_of
from etude_client.sources import arrays, files
from etude_client.sources.arrays import array_objects
from etude_client.sources.progress import ProgressLine
from etude_client.sources.reading import How, Reading, Source
from etude_client.sources.values import json_row
from etude_proto.rows.columns import Columns
from etude_proto.rows.shapes import Shape
from etude_proto.rows.stream import DatasetUnusable, JsonObject, RowFault, RowRefused
from etude_proto.v1 import TaskCreate, task_id
from support.shaped_rows import ROWS

datasets = pytest.importorskip("datasets")

SUMS: list[JsonObject] = [
    {"question": f"{n} + 1?", "final": str(n + 1), "origin": "sums", "note": None} for n in range(7)
]
COLUMNS: Columns = {
    "prompt": "question",
    "answer": "final",
    "source": "origin",
    "subtasks": ["right"],
}
TYPED = [Shape.TASK, Shape.OPENAI, Shape.TRL, Shape.VERL, Shape.RLLA, Shape.XLAM, Shape.TOOLACE]
"""Shapes whose rows a typed table can hold as they are."""


def written(folder: Path, rows: list[JsonObject]) -> Iterator[tuple[str, Source]]:
    """The rows in every form."""
    table = datasets.Dataset.from_list(rows)
    parquet, lines, array = folder / "a.parquet", folder / "a.jsonl", folder / "a.json"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    lines.write_text(text)
    array.write_text(json.dumps(rows, indent=2))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "a.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    yield from (
        ("list", rows),
        ("iterator", iter(rows)),
        ("Dataset", table),
        ("Dataset of numpy", table.with_format("numpy")),
        ("IterableDataset", table.to_iterable_dataset()),
        ("pyarrow", pyarrow.Table.from_pylist(rows)),
        ("Parquet", parquet),
        ("JSON lines", lines),
        ("text of a path", str(lines)),
        ("JSON array", array),
        ("gzip", folder / "a.jsonl.gz"),
        ("zstd", folder / "a.jsonl.zst"),
    )


@pytest.mark.parametrize("shape", [None, *TYPED])
def test_the_same_rows_are_the_same_tasks(shape: Shape | None, tmp_path: Path) -> None:
    rows = SUMS if shape is None else [ROWS[shape]]
    how = How(columns=COLUMNS if shape is None else None)
    found: dict[str, list[TaskCreate]] = {}
    for name, source in written(tmp_path, rows):
        reading = Reading(source, how)
        count = reading.count()
        found[name] = list(reading.tasks())
        assert reading.shape is shape, name
        assert count is None or count == len(rows), name
    first = found["list"]
    assert len({task_id(task) for task in first}) == len(rows)
    for name, tasks in found.items():
        assert [line_of(task) for task in tasks] == [line_of(task) for task in first], name


def test_tasks_pass_as_they_are() -> None:
    tasks = list(Reading([ROWS[Shape.TASK]]).tasks())
    assert list(Reading(tasks).tasks()) == tasks
    assert list(Reading(iter([tasks[0], ROWS[Shape.TASK]])).tasks()) == tasks * 2
    gold: JsonObject = {"kind": "calls", "calls": [{"name": "f"}]}
    scored = {**ROWS[Shape.OPENAI], "reference": gold, "tools": []}
    del scored["response"]
    (task,) = Reading([scored]).tasks()
    assert task.subtasks == [], "a trainer that scores by itself names its own"
    (task,) = Reading([scored], How(as_given=False)).tasks()
    assert task.subtasks == ["format", "tool_name", "param_name"], "as `etude import` does"


class Lazy:
    """A data set that only knows its length and its rows."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> JsonObject:
        if index >= 2:
            raise IndexError
        return {"prompt": f"{index}?"}


def test_rows_by_index() -> None:
    source: object = Lazy()
    assert Reading(source).count() == 2
    assert [task.messages[0].content for task in Reading(source).tasks()] == ["0?", "1?"]


@pytest.mark.parametrize(
    ("source", "columns", "words"),
    [
        (
            lambda: datasets.DatasetDict(train=datasets.Dataset.from_list(SUMS), test=Lazy()),
            COLUMNS,
            r"DatasetDict|a mapping with the keys 'train', 'test'",
        ),
        (lambda: {"prompt": ["a"]}, None, "keys 'prompt' is not rows"),
        (lambda: 3, None, "int has no rows"),
        (lambda: [1], None, "row 0: expected a mapping of columns, or a task, found int"),
        (lambda: SUMS, None, "no known shape"),
        (lambda: SUMS, {"prompt": "qestion"}, "no column 'qestion'.* did you mean 'question'"),
        (lambda: [{"prompt": "a"}, {"prompt": None}], None, "row 1, column 'prompt': a prompt is"),
        (lambda: [{"prompt": "a\x00"}], None, r"row 0, column 'prompt': .* U\+0000"),
        (lambda: "nowhere.jsonl", None, "cannot read nowhere.jsonl"),
        (
            lambda: [{"prompt": [{"role": "user", "content": "x"}, {"role": "user"}, 3]}],
            None,
            "row 0, column 'prompt' at /2: a message has role and content, found a number",
        ),
    ],
)
def test_faults_name_row_and_column(
    source: Callable[[], object], columns: Columns | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        list(Reading(source(), How(columns=columns)).tasks())


def test_splits_are_named() -> None:
    table = datasets.Dataset.from_list(SUMS)
    both = datasets.DatasetDict(train=table, test=table)
    with pytest.raises(DatasetUnusable) as refused:
        list(Reading(both).tasks())
    assert str(refused.value) == (
        "a DatasetDict with the splits 'train', 'test': give one of them, for example "
        "dataset['train']"
    )


def test_a_bad_row_costs_only_itself() -> None:
    rows = [ROWS[Shape.TRL], {"prompt": ""}, {"other": 1}, {"prompt": "x"}]
    made = list(Reading(rows))
    assert [isinstance(row, RowFault) for row in made] == [False, True, True, False]


@pytest.mark.parametrize(("suffix", "package"), [("parquet", "pyarrow"), ("zst", "zstandard")])
def test_what_is_missing_is_named(
    suffix: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {Path(str(s)).suffix: s for name, s in written(tmp_path, SUMS) if "." in str(s)}
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DatasetUnusable, match=r"pip install 'etude-proto\[files\]'"):
        list(Reading(sources[f".{suffix}"], How(columns=COLUMNS)).tasks())


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_a_damaged_archive_keeps_its_first_rows(
    packed: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    texts = (hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(9000))
    lines = "".join(json.dumps({"prompt": text}) + "\n" for text in texts)
    path = tmp_path / "rows"
    path.write_bytes(packed(lines.encode())[:-100_000])
    *good, fault = Reading(path)
    assert len(good) > 1000
    assert isinstance(fault, RowFault)
    assert "unreadable from this line on" in fault.detail
    path.write_bytes(packed(b'{"prompt": "a"}\n') + packed(b'{"prompt": "b"}\n'))
    assert [task.messages[0].content for task in Reading(path).tasks()] == ["a", "b"]


ROW = st.dictionaries(
    st.text(max_size=4), st.text(max_size=6) | st.lists(st.integers()), max_size=3
)


@settings(max_examples=60)
@given(st.lists(ROW, max_size=5), st.sampled_from([None, 1]), st.integers(2, 40))
def test_arrays_are_read_in_pieces(rows: list[JsonObject], indent: int | None, piece: int) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=False)
    before = arrays.PIECE_CHARS
    arrays.PIECE_CHARS = piece
    try:
        found = list(array_objects(io.StringIO(text)))
    finally:
        arrays.PIECE_CHARS = before
    values = [item for _, item in found]
    if any("\x00" in str(row) or "\\u0000" in json.dumps(row) for row in rows):
        return
    assert values == rows
    assert [number for number, _ in found] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("text", "num_good", "words"),
    [
        ('[{"a": 1}, {"a": 2}', 1, "cut short"),
        ('[{"a": 1}] {"a": 2}', 1, "something after"),
        ('[{"a": 1},, {"a": 2}]', 2, "not JSON"),
        ('[{"a": 1}, 3]', 1, "expected an object, found a number"),
        ('[{"a": NaN}]', 0, "NaN is not JSON"),
        ("[", 0, "cut short"),
    ],
)
def test_arrays_that_are_broken(text: str, num_good: int, words: str) -> None:
    items = [item for _, item in array_objects(io.StringIO(text))]
    faults = [item for item in items if isinstance(item, RowRefused)]
    assert len(items) - len(faults) == num_good
    assert words in faults[0].detail


def test_values_of_tables() -> None:
    row: dict[object, object] = {
        "a": {"b": None, "c": 1},
        "d": None,
        "e": (1, 2.5),
        "f": {"g": [{"h": None}]},
        "i": object,
    }
    assert json_row(row, is_table=True) == {
        "a": {"c": 1},
        "d": None,
        "e": [1, 2.5],
        "f": {"g": [{}]},
    }
    assert json_row({"a": {"b": None}}, is_table=False) == {"a": {"b": None}}
    with pytest.raises(RowRefused, match="nan is not JSON"):
        json_row({"x": [float("nan")]}, is_table=True)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "is_shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_progress_is_shown_on_a_terminal(stream: io.StringIO, is_shown: bool) -> None:
    seconds = iter([0.0, 1.0, 4.0, 4.1, 8.0])
    line = ProgressLine("reading", 2000, stream=stream, clock=lambda: next(seconds))
    for number in (100, 400, 410, 1000):
        line(number)
    line.close()
    shown = stream.getvalue()
    assert shown.startswith("\rreading: 400 of 2,000 rows, 100 a second") is is_shown
    assert shown.count("\r") == (2 if is_shown else 0)
    assert "410" not in shown


def test_a_file_is_not_held(tmp_path: Path) -> None:
    """The first row of an endless source is a task before the second is read."""
    read: list[int] = []

    def rows() -> Iterator[JsonObject]:
        for number in range(10**9):
            read.append(number)
            yield {"prompt": f"{number}?"}

    tasks = Reading(rows()).tasks()
    next(tasks)
    next(tasks)
    assert read == [0, 1]
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "x"}\n' * 3)
    assert files.count_rows(path) == 3
