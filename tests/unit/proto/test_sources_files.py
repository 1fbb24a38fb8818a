"""Files as numbered objects: every kind of broken line is told with its number and its reason."""

from __future__ import annotations

import math
import os
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from etude_client.sources import files, upload
from etude_client.sources.files import count_rows, json_lines, numbered_objects
from etude_client.sources.reading import Reading
from etude_client.sources.tables import numbered_rows
from etude_client.sources.values import json_row
from etude_proto.rows.stream import DatasetUnusable, RowRefused, pointer_to
from etude_proto.rows.strict_json import MAX_DEPTH, parse_json, parse_object

BROKEN = [
    (b'{"a": 1', "not JSON: Expecting ',' delimiter (character 8)"),
    (b"{'a': 1}", "not JSON"),
    (b'{"a": 1} {"b": 2}', "not JSON: Extra data (character 10)"),
    (b'{"a": "\xff"}', "not UTF-8 (byte 8)"),
    (b'{"a": 1, "b": {"c": 1, "c": 2}}', 'the key "c" appears twice in one object'),
    (b'{"a": NaN}', "NaN is not JSON"),
    (b'{"a": -Infinity}', "-Infinity is not JSON"),
    (b'{"a": 1e999}', "the number 1e999 is too large"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    (b'{"a": ' + b"[" * 100_000 + b"}", f"nested deeper than {MAX_DEPTH} levels"),
    (b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}", f"nested deeper than {MAX_DEPTH} levels"),
    (b'"text"', "expected an object, found a string"),
    (b"[1, 2]", "expected an object, found an array"),
    (b"3.5", "expected an object, found a number"),
    (b"true", "expected an object, found a boolean"),
    (b"null", "expected an object, found null"),
    (b'{"a": ["\\u0000"]}', "contains the character U+0000"),
    (b'{"a": ["\\ud800"]}', "contains half of a surrogate pair"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_broken_lines_say_why(line: bytes, reason: str) -> None:
    with pytest.raises(RowRefused) as caught:
        parse_object(line)
    assert caught.value.detail.startswith(reason)


def test_broken_lines_never_end_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = b'{"n": 1}'
    path.write_bytes(b"\n".join(part for line, _ in BROKEN for part in (good, line)) + b"\n")
    found = list(numbered_objects(path))
    assert [line for line, _ in found] == list(range(1, 2 * len(BROKEN) + 1))
    for line, item in found:
        assert isinstance(item, RowRefused) == (line % 2 == 0)


def test_the_place_of_a_text_that_cannot_be_stored() -> None:
    with pytest.raises(RowRefused) as caught:
        parse_json('{"a/b": [{"c~": "x\\u0000"}]}')
    assert caught.value.pointer == "/a~1b/0/c~0" == pointer_to("a/b", 0, "c~")


def test_escapes_that_can_be_stored() -> None:
    assert parse_json('"\\ud83d\\ude00 \\\\u0000"') == "😀 \\u0000"
    assert parse_json("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)


def test_line_numbers_count_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": 1}\r\n\r\n  \n{"n": "\xe2\x80\xa8"}\n\n{"n": 3}')
    assert list(json_lines(path)) == [(1, {"n": 1}), (4, {"n": "\u2028"}), (6, {"n": 3})]
    assert count_rows(path) == 6


def test_a_line_that_is_too_long_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 2**20)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": "' + b"x" * (3 * 2**20) + b'"}\n{"n": 3}\n' + b"y" * 2**20)
    first, second, third, fourth = json_lines(path)
    assert (first, third) == ((1, {"n": 1}), (3, {"n": 3}))
    for line, item in (second, fourth):
        assert isinstance(item, RowRefused)
        assert (line, item.detail) in {(2, TOO_LONG), (4, TOO_LONG)}


TOO_LONG = "the line is longer than 1 MiB"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable, match="No such file"):
        list(numbered_objects(tmp_path / "nowhere.jsonl"))
    with pytest.raises(DatasetUnusable, match="directory"):
        count_rows(tmp_path)
    path = tmp_path / "not.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DatasetUnusable, match="as Parquet"):
        list(numbered_objects(path))
    with pytest.raises(DatasetUnusable, match="as Parquet"):
        count_rows(path)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    assert list(numbered_objects(path)) == []
    assert count_rows(path) == 0


def test_parquet_texts_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.Table.from_pylist([{"a": "good"}, {"a": "bad\x00"}])
    pyarrow.parquet.write_table(table, path)
    (_, first), (line, second) = numbered_objects(path)
    assert first == {"a": "good"}
    assert isinstance(second, RowRefused)
    assert (line, second.pointer) == (2, "/a")
    assert count_rows(path) == 2


def test_times_that_python_cannot_hold_become_text(tmp_path: Path) -> None:
    path = tmp_path / "times.parquet"
    late = pyarrow.array([2**60, 0], pyarrow.timestamp("us"))
    fine = pyarrow.array([1, 2_000_000_001], pyarrow.timestamp("ns"))
    table = pyarrow.table({"a": ["x", "y"], "late": late, "fine": fine})
    pyarrow.parquet.write_table(table, path)
    for rows in (list(numbered_objects(path)), list(numbered_rows(table))):
        texts = [row for _, row in rows if isinstance(row, dict)]
        assert [row["a"] for row in texts] == ["x", "y"]
        assert all(isinstance(row["late"], str) for row in texts)


def test_a_pipe_is_refused_in_a_line() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b'{"a": 1}\n')
        with pytest.raises(DatasetUnusable, match="a pipe or a device"):
            list(numbered_objects(Path(f"/dev/fd/{reading}")))
    finally:
        os.close(reading)
        os.close(writing)


def test_a_byte_that_is_not_utf8_costs_one_element_of_an_array(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"a": 1}, {"a": "\xff"}, {"a": 3}]')
    rows = dict(numbered_objects(path))
    assert (rows[1], rows[3]) == ({"a": 1}, {"a": 3})
    refused = rows[2]
    assert isinstance(refused, RowRefused)
    assert refused.detail == "not UTF-8"


def test_pandas_null_and_decimals() -> None:
    made = json_row(
        {"n": math.nan, "s": Decimal("sNaN"), "d": Decimal("0.1"), "i": Decimal(2**60 + 1)},
        is_table=False,
    )
    assert made == {"n": None, "s": None, "d": 0.1, "i": 2**60 + 1}
    exact = "0.12345678901234567890123"
    assert json_row({"x": Decimal(exact)}, is_table=False) == {"x": exact}
    with pytest.raises(RowRefused, match="sNaN is not JSON"):
        json_row({"x": [Decimal("sNaN")]}, is_table=False)


def test_a_task_that_is_too_long_costs_itself() -> None:
    rows = [{"prompt": "x" * upload.MAX_TASK_BYTES}, {"prompt": "y"}]
    summary = upload.Summary()
    (chunk,) = upload.chunks(Reading(rows), summary)
    assert len(chunk.rows) == 1
    assert "longer than 16 MiB" in summary.faults[0].detail
