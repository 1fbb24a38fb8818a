"""Any source of rows as a stream of tasks: the way in for `Curriculum`, the client and the CLI.

Joins `files` and `tables` with the converters of `etude_proto.rows`. Rows are read as they are
asked for; what shape they have is known with the first one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from etude_proto.rows.columns import Columns, Mapped
from etude_proto.rows.shapes import Convert, Shape, converter, recognised, refuse_others
from etude_proto.rows.stream import DatasetUnusable, JsonObject, Row, RowFault, RowRefused
from etude_proto.v1 import TaskCreate

from .files import count_rows, numbered_objects
from .tables import NumberedRows, count_known, numbered_rows

Source = str | Path | Iterable[TaskCreate | Mapping[str, object]]
"""A file's path, or rows: a data set of Hugging Face's, a list, a generator."""


@dataclass(frozen=True, slots=True)
class How:
    """How rows become tasks."""

    shape: Shape | None = None
    """None: recognised by the first row's columns."""
    columns: Columns | None = None
    """See `etude_proto.rows.columns`."""
    held_out_share: float = 0.0
    """Of dialogues whose rows say nothing about their split."""
    mask: bool = False
    """Hide the names of tools, for rows of xLAM's shape."""
    as_given: bool = True
    """Rows that are tasks are taken as they are, without sub-tasks derived from their gold."""


@dataclass(slots=True)
class Reading:
    """The rows of a source, once: iterate it.

    Raises:
        DatasetUnusable: it cannot be read, its shape is not known, or `columns` make no sense.
    """

    source: object
    how: How = field(default_factory=How)
    shape: Shape | None = field(init=False, default=None)
    """Of the rows; set with the first of them."""
    _mapped: Mapped | None = field(init=False, default=None)
    _is_recognised: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.shape = self.how.shape
        if self.how.columns is not None:
            self._mapped = Mapped(self.how.columns)
        if not 0.0 <= self.how.held_out_share <= 1.0:
            raise DatasetUnusable("the held-out share must be in [0, 1]")

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return Path(self.source) if isinstance(self.source, str | Path) else None

    def count(self) -> int | None:
        """Upper bound of the rows, if known without reading them all."""
        return count_known(self.source) if self.path is None else count_rows(self.path)

    def __iter__(self) -> Iterator[Row | RowFault]:
        rows: NumberedRows
        rows = numbered_rows(self.source) if self.path is None else numbered_objects(self.path)
        convert: Convert | None = None
        for number, item in rows:
            try:
                if isinstance(item, RowRefused):
                    raise item
                if isinstance(item, TaskCreate):
                    yield Row(number, item)
                    continue
                if convert is None:
                    convert = self._converter(item)
                if self._is_recognised and self.shape is not None:
                    refuse_others(self.shape, item)
                yield Row(number, convert(item))
            except RowRefused as refused:
                yield RowFault(number, refused.pointer, refused.detail)

    def tasks(self) -> Iterator[TaskCreate]:
        """The tasks, if every row is one.

        Raises:
            DatasetUnusable: at the first row that is none; row and column are named.
        """
        for row in self:
            if isinstance(row, RowFault):
                raise DatasetUnusable(self.said(row))
            yield row.task

    def said(self, fault: RowFault) -> str:
        """A refusal with its place, in words."""
        path = self.path
        place = f"row {fault.line}" if path is None else f"{path}, line {fault.line}"
        if not fault.pointer:
            return f"{place}: {fault.detail}"
        column, _, rest = fault.pointer[1:].partition("/")
        inside = f" at /{rest}" if rest else ""
        return f"{place}, column {_plain(column)!r}{inside}: {fault.detail}"

    def _converter(self, first: JsonObject) -> Convert:
        mapped = self._mapped
        if mapped is not None:
            mapped.check(first)
        if self.shape is None and not (mapped is not None and mapped.is_whole):
            self.shape = recognised(first)
            self._is_recognised = True
        return converter(
            self.shape,
            held_out_share=self.how.held_out_share,
            columns=mapped,
            mask=self.how.mask,
            as_given=self.how.as_given,
        )


def _plain(part: str) -> str:
    """A part of a JSON pointer as the name it stands for."""
    return part.replace("~1", "/").replace("~0", "~")
