"""Batches of Arrow as rows in Python's types. Used by `files` and `tables`.

Arrow holds times that Python cannot: beyond the year 9999, or with nanoseconds. They become text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from etude_proto.rows.stream import RowRefused, pointer_to

if TYPE_CHECKING:
    import pyarrow


def batch_rows(batch: pyarrow.RecordBatch) -> Iterator[Mapping[object, object] | RowRefused]:
    """The rows of a batch, or why one cannot be had."""
    try:
        rows: list[Mapping[object, object]] = batch.to_pylist()
    except (OverflowError, ValueError):  # UnicodeDecodeError is one too
        rows = []
    if len(rows) == batch.num_rows:
        yield from rows
        return
    for index in range(batch.num_rows):
        try:
            yield {
                name: _plain(name, column[index])
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
        except RowRefused as refused:
            yield refused


def _plain(name: str, value: pyarrow.Scalar) -> object:
    try:
        held: object = value.as_py()
    except (OverflowError, ValueError) as error:
        import pyarrow

        if not pyarrow.types.is_temporal(value.type):
            said = str(error).partition("\n")[0]
            raise RowRefused(pointer_to(name), f"unreadable: {said}") from error
        try:
            held = value.cast(pyarrow.string()).as_py()
        except (pyarrow.ArrowException, ValueError) as worse:
            raise RowRefused(pointer_to(name), "a time that cannot be written") from worse
    return held
