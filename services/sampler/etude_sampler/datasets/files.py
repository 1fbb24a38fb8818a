"""Files as numbered objects: JSON lines and Parquet, read in a bounded piece at a time.

Sits below the converters: `numbered_objects` yields what a converter gets, or the reason why a
line holds no object. Nothing in here knows what the objects mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow
import pyarrow.parquet

from .rows import DatasetUnusable, JsonObject, RowRefused
from .strict_json import check_texts, parse_object

MAX_LINE_BYTES = 16 * 2**20
"""Longest line that is read; a longer one is refused and skipped."""

BATCH_ROWS = 256
"""Rows of a Parquet file decoded at a time."""

_PARQUET_MAGIC = b"PAR1"
_BOM = b"\xef\xbb\xbf"

NumberedObjects = Iterator[tuple[int, JsonObject | RowRefused]]


def numbered_objects(path: Path) -> NumberedObjects:
    """Every row of a JSON lines or Parquet file with its number from 1; blank lines are skipped.

    The format is read from the first bytes, not from the name. Memory does not grow with the file.

    Raises:
        DatasetUnusable: at the first step, when the file cannot be opened or is no table.
    """
    return parquet_objects(path) if is_parquet(path) else json_lines(path)


def count_rows(path: Path) -> int:
    """Upper bound of the rows of a file, for a progress bar.

    Raises:
        DatasetUnusable: the file cannot be read.
    """
    if is_parquet(path):
        with _open_parquet(path) as table:
            return int(table.metadata.num_rows)
    lines, last = 0, b"\n"
    with _open(path) as file:
        while piece := file.read(2**20):
            lines += piece.count(b"\n")
            last = piece[-1:]
    return lines if last == b"\n" else lines + 1


def is_parquet(path: Path) -> bool:
    """Whether the file begins as a Parquet file does.

    Raises:
        DatasetUnusable: the file cannot be read.
    """
    with _open(path) as file:
        return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC


def json_lines(path: Path) -> NumberedObjects:
    """The objects of a JSON lines file, UTF-8 with or without a byte order mark."""
    with _open(path) as file:
        for number, line in enumerate(_bounded_lines(file), start=1):
            if isinstance(line, RowRefused):
                yield number, line
                continue
            text = line.removeprefix(_BOM) if number == 1 else line
            if not text.strip():
                continue
            try:
                yield number, parse_object(text)
            except RowRefused as refused:
                yield number, refused


def parquet_objects(path: Path) -> NumberedObjects:
    """The rows of a Parquet file. An unreadable page ends the stream with a fault, not an error."""
    number = 0
    with _open_parquet(path) as table:
        try:
            for batch in table.iter_batches(batch_size=BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    try:
                        check_texts(row)
                    except RowRefused as refused:
                        yield number, refused
                    else:
                        yield number, row
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            yield number + 1, RowRefused("", f"unreadable from this row on: {_first_line(error)}")


def _bounded_lines(file: BinaryIO) -> Iterator[bytes | RowRefused]:
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while rest := file.readline(MAX_LINE_BYTES):
            if rest.endswith(b"\n"):
                break
        yield RowRefused("", f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DatasetUnusable(f"cannot read {path}: {error.strerror}") from error


def _open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetUnusable(f"cannot read {path} as Parquet: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
