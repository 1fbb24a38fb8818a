"""Files as numbered objects: JSON lines, JSON arrays, Parquet, read in a bounded piece at a time.

Sits below the converters of `etude_proto.rows`: `numbered_objects` yields what a converter gets, or
the reason why a place holds no object. Nothing in here knows what the objects mean. `packed`
unpacks them, `arrays` reads JSON arrays.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from etude_proto.rows.stream import (
    DatasetUnusable,
    JsonObject,
    RowRefused,
    RowStream,
    converted,
)
from etude_proto.rows.strict_json import parse_object

from .arrays import array_objects
from .batches import batch_rows
from .packed import EXTRA, damages, is_packed, unpacked
from .values import json_row

if TYPE_CHECKING:
    import pyarrow.parquet

    from etude_proto.v1 import TaskCreate

MAX_LINE_BYTES = 16 * 2**20
"""Longest line that is read; a longer one is refused and skipped."""

BATCH_ROWS = 256
"""Rows of a Parquet file decoded at a time."""

_PARQUET_MAGIC = b"PAR1"
_BOM = b"\xef\xbb\xbf"

NumberedObjects = Iterator[tuple[int, JsonObject | RowRefused]]


def file_rows(path: Path, convert: Callable[[JsonObject], TaskCreate]) -> RowStream:
    """Tasks of a file, in its order.

    Raises:
        DatasetUnusable: at the first step, when the file cannot be opened or is no table.
    """
    return converted(numbered_objects(path), convert)


def numbered_objects(path: Path) -> NumberedObjects:
    """Every row of a file with its number from 1: a line, a table's row, an array's element.

    Blank lines are skipped. The format is read from the first bytes, not from the name. Memory
    does not grow with the file; that for Parquet does with the largest row group.

    Raises:
        DatasetUnusable: at the first step, when the file cannot be opened or is no table.
    """
    if is_parquet(path):
        return parquet_objects(path)
    return _array(path) if _is_array(path) else json_lines(path)


def count_rows(path: Path) -> int | None:
    """Upper bound of the rows of a file, for a progress bar; None: not known without reading it.

    Raises:
        DatasetUnusable: the file cannot be read.
    """
    if is_parquet(path):
        with _open_parquet(path) as table:
            return int(table.metadata.num_rows)
    if is_packed(_magic(path)) or _is_array(path):
        return None
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
    return _magic(path) == _PARQUET_MAGIC


def json_lines(path: Path) -> NumberedObjects:
    """The objects of a JSON lines file, UTF-8 with or without a byte order mark.

    A damaged archive ends the stream with a fault, not an error.
    """
    number = 0
    with _unpacked(path) as file:
        try:
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
        except damages() as error:
            yield number + 1, RowRefused("", f"unreadable from this line on: {_first_line(error)}")


def parquet_objects(path: Path) -> NumberedObjects:
    """The rows of a Parquet file. An unreadable page ends the stream with a fault, not an error."""
    number = 0
    with _open_parquet(path) as table:
        import pyarrow  # it is there: the table is open

        try:
            for batch in table.iter_batches(batch_size=BATCH_ROWS):
                for row in batch_rows(batch):
                    number += 1
                    if isinstance(row, RowRefused):
                        yield number, row
                        continue
                    try:
                        yield number, json_row(row, is_table=True)
                    except RowRefused as refused:
                        yield number, refused
        except (pyarrow.ArrowException, OSError) as error:
            yield number + 1, RowRefused("", f"unreadable from this row on: {_first_line(error)}")


def _array(path: Path) -> NumberedObjects:
    with _unpacked(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
        number = 0
        try:
            for number, item in array_objects(text):
                yield number, item
        except damages() as error:
            yield number + 1, RowRefused("", f"unreadable from this row on: {_first_line(error)}")


def _is_array(path: Path) -> bool:
    with _unpacked(path) as file:
        try:
            return file.read(4096).removeprefix(_BOM).lstrip()[:1] == b"["
        except damages() as error:
            raise DatasetUnusable(f"cannot read {path}: {_first_line(error)}") from error


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes | RowRefused]:
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while rest := file.readline(MAX_LINE_BYTES):
            if rest.endswith(b"\n"):
                break
        yield RowRefused("", f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB")


def _magic(path: Path) -> bytes:
    with _open(path) as file:
        return file.read(4)


def _open(path: Path) -> IO[bytes]:
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise DatasetUnusable(
                f"cannot read {path}: it is a pipe or a device; write it to a file first"
            )
        return path.open("rb")
    except OSError as error:
        raise DatasetUnusable(f"cannot read {path}: {error.strerror}") from error


def _unpacked(path: Path) -> IO[bytes]:
    return unpacked(path, _magic(path), _open)


def _open_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetUnusable(f"{path} is Parquet; to read it: {EXTRA}") from error
    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetUnusable(f"cannot read {path} as Parquet: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
