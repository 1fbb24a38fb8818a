"""Data sets and iterators of Python's as numbered objects, in their order, a row at a time.

Hugging Face's classes are known by what they can do: `datasets` is never imported. Beside `files`;
`reading` uses both. Rows are numbered from 0, as their owner counts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, Self, cast, runtime_checkable

from etude_proto.rows.stream import DatasetUnusable, JsonObject, RowRefused
from etude_proto.v1 import TaskCreate

from .batches import batch_rows
from .values import json_row

if TYPE_CHECKING:
    import pyarrow

_DECODED = {"Image", "Audio", "Video", "Pdf", "Nifti"}
"""Features of columns that take long to decode and are no part of a task."""


@runtime_checkable
class Table(Protocol):
    """A data set of Hugging Face's, in memory or streamed."""

    @property
    def features(self) -> Mapping[str, object] | None:
        """What the columns hold, if known."""

    def remove_columns(self, column_names: list[str]) -> Self:
        """Without these columns."""

    def with_format(self, type: None) -> Iterable[object]:
        """In Python's types."""


@runtime_checkable
class Arrow(Protocol):
    """A table of pyarrow's."""

    def to_batches(self, max_chunksize: int) -> Iterable[pyarrow.RecordBatch]:
        """In pieces."""


NumberedRows = Iterator[tuple[int, JsonObject | RowRefused | TaskCreate]]


def numbered_rows(source: object) -> NumberedRows:
    """The rows of a data set, a pyarrow table, or any iterable of rows or tasks.

    Raises:
        DatasetUnusable: at once, when it has no rows to go through, or several splits.
    """
    if isinstance(source, Mapping):
        raise DatasetUnusable(_of_splits(source))
    if hasattr(source, "iterrows"):
        raise DatasetUnusable("a data frame of pandas: give frame.to_dict('records')")
    if isinstance(source, Arrow) and not isinstance(source, Table):
        return _rows(_of_arrow(source), is_table=True)
    if isinstance(source, Table):
        return _rows(_plain(source), is_table=True)
    if not isinstance(source, Iterable) and not hasattr(source, "__getitem__"):
        raise DatasetUnusable(
            f"{type(source).__name__} has no rows: give a file's path, a data set, or an iterable "
            "of rows"
        )
    return _rows(cast("Iterable[object]", source), is_table=False)


def count_known(source: object) -> int | None:
    """How many rows there are, if that is known beforehand."""
    try:
        return len(source)  # type: ignore[arg-type]  # whatever has a length
    except TypeError:
        return None


def _rows(source: Iterable[object], *, is_table: bool) -> NumberedRows:
    for number, row in enumerate(source):
        if isinstance(row, TaskCreate | RowRefused):
            yield number, row
        elif isinstance(row, Mapping):
            try:
                yield number, json_row(row, is_table=is_table)
            except RowRefused as refused:
                yield number, refused
        else:
            said = f"expected a mapping of columns, or a task, found {type(row).__name__}"
            yield number, RowRefused("", said)


def _plain(source: Table) -> Iterable[object]:
    """The data set in Python's types, without columns that are pictures or sounds."""
    features = source.features or {}
    heavy = [name for name, kind in features.items() if type(kind).__name__ in _DECODED]
    return (source.remove_columns(heavy) if heavy else source).with_format(None)


def _of_arrow(source: Arrow) -> Iterator[object]:
    for batch in source.to_batches(256):
        yield from batch_rows(batch)


def _of_splits(source: Mapping[object, object]) -> str:
    names = ", ".join(repr(name) for name in source)
    first = next(iter(source), "train")
    if source and all(hasattr(one, "features") for one in source.values()):
        return (
            f"a {type(source).__name__} with the splits {names}: give one of them, for example "
            f"dataset[{first!r}]"
        )
    return (
        f"a mapping with the keys {names} is not rows: give a list of rows, one mapping each"
        if source
        else "an empty mapping is not rows"
    )
