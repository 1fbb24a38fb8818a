"""Importing rows of any source, for both clients; the parts are in `sources`.

`import_tasks` sends lines as they are; this reads, converts and sends in pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import operations
from .connections import AsyncConnection, Connection

if TYPE_CHECKING:
    from etude_proto.rows.columns import Columns

    from .sources.reading import Reading, Source
    from .sources.upload import Summary


def _reading(
    rows: Source, columns: Columns | None, shape: str | None, held_out_share: float
) -> Reading:
    from etude_proto.rows.shapes import Shape
    from etude_proto.rows.stream import DatasetUnusable

    from .sources.reading import How, Reading

    if shape is not None and shape not in set(Shape):
        raise DatasetUnusable(f"no shape is named {shape!r}: {', '.join(Shape)}")
    known = None if shape is None else Shape(shape)
    return Reading(rows, How(known, columns=columns, held_out_share=held_out_share, as_given=False))


class AsyncImportingCalls(AsyncConnection):
    """`import_rows` of `AsyncEtudeClient`."""

    async def import_rows(
        self,
        dataset_id: str,
        rows: Source,
        *,
        columns: Columns | None = None,
        shape: str | None = None,
        held_out_share: float = 0.0,
        on_progress: Callable[[Summary], None] | None = None,
    ) -> Summary:
        """Import a file, a data set or an iterable of rows; bad rows are told, good ones imported.

        Args:
            dataset_id: of a dataset that exists.
            rows: a path (JSON lines, JSON, Parquet), a data set of Hugging Face's, or an iterable.
            columns: which column is what; by default rows of known shapes are recognised.
            shape: of the rows, instead of recognising it (`etude_proto.rows.shapes.Shape`).
            held_out_share: of the dialogues that no run draws; rows that say so are believed.
            on_progress: told after every piece of 500 rows.

        Returns:
            How many rows were created or there, their sources, and every refused row.

        Raises:
            ValueError: the source cannot be read, or its shape is not known.
            EtudeError: the sampler is away or refuses; what was sent before stays.
        """
        from .sources.upload import Summary, chunks, count

        summary = Summary()
        pieces = chunks(_reading(rows, columns, shape, held_out_share), summary)
        while (chunk := await asyncio.to_thread(next, pieces, None)) is not None:
            if chunk.lines:
                call = operations.import_tasks(
                    dataset_id, chunk.lines, key=None, compress=self._compress
                )
                count(await self._send(call), chunk, summary)
            if on_progress is not None:
                on_progress(summary)
        return summary


class ImportingCalls(Connection):
    """`import_rows` of `EtudeClient`."""

    def import_rows(
        self,
        dataset_id: str,
        rows: Source,
        *,
        columns: Columns | None = None,
        shape: str | None = None,
        held_out_share: float = 0.0,
        on_progress: Callable[[Summary], None] | None = None,
    ) -> Summary:
        """Import a file, a data set or an iterable of rows; bad rows are told, good ones imported.

        Args:
            dataset_id: of a dataset that exists.
            rows: a path (JSON lines, JSON, Parquet), a data set of Hugging Face's, or an iterable.
            columns: which column is what; by default rows of known shapes are recognised.
            shape: of the rows, instead of recognising it (`etude_proto.rows.shapes.Shape`).
            held_out_share: of the dialogues that no run draws; rows that say so are believed.
            on_progress: told after every piece of 500 rows.

        Returns:
            How many rows were created or there, their sources, and every refused row.

        Raises:
            ValueError: the source cannot be read, or its shape is not known.
            EtudeError: the sampler is away or refuses; what was sent before stays.
        """
        from .sources.upload import Summary, chunks, count

        summary = Summary()
        for chunk in chunks(_reading(rows, columns, shape, held_out_share), summary):
            if chunk.lines:
                call = operations.import_tasks(
                    dataset_id, chunk.lines, key=None, compress=self._compress
                )
                count(self._send(call), chunk, summary)
            if on_progress is not None:
                on_progress(summary)
        return summary
