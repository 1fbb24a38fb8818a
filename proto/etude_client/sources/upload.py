"""A row stream into a dataset of the sampler, in chunks that can be sent again.

Used by `importing` and `etude import`. The sampler validates every line once more; what it refuses
is reported with the line of the file, not of the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etude_proto.rows.stream import Row, RowFault
from etude_proto.v1 import ImportReceipt, Split

if TYPE_CHECKING:
    from ..sync_client import EtudeClient

CHUNK_TASKS = 500
CHUNK_BYTES = 4 * 2**20
"""A chunk ends with the task that reaches either."""

MAX_TASK_BYTES = 16 * 2**20
"""Longest line that the sampler takes."""


@dataclass(slots=True)
class Summary:
    """What became of an import so far."""

    num_rows: int = 0
    """Rows read, blank lines not counted."""
    num_created: int = 0
    num_existing: int = 0
    """Rows whose content was in the dataset before, or twice in the file."""
    num_train: int = 0
    num_held_out: int = 0
    """Accepted rows by split, those that existed before included."""
    sources: dict[str, int] = field(default_factory=dict)
    """Accepted rows per source."""
    faults: list[RowFault] = field(default_factory=list)
    """Refused rows, by this program or by the sampler."""

    @property
    def num_accepted(self) -> int:
        """Rows that are in the dataset now."""
        return self.num_created + self.num_existing


@dataclass(slots=True)
class Chunk:
    """Tasks that are sent in one call."""

    rows: list[Row] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    num_bytes: int = 0

    def add(self, row: Row) -> None:
        """One more task."""
        line = row.task.model_dump_json().encode()
        self.rows.append(row)
        self.lines.append(line)
        self.num_bytes += len(line)

    @property
    def is_full(self) -> bool:
        """Whether it is sent before the next task."""
        return len(self.rows) >= CHUNK_TASKS or self.num_bytes >= CHUNK_BYTES


def upload(
    client: EtudeClient,
    dataset_id: str,
    rows: Iterable[Row | RowFault],
    *,
    summary: Summary,
    on_progress: Callable[[Summary], None],
) -> None:
    """Send every good row, in order, and count into `summary`, which is right after every chunk.

    Raises:
        EtudeError: the sampler cannot be reached or refuses a chunk; what was sent before stays.
        DatasetUnusable: the source cannot be read (any further).
    """
    for chunk in chunks(rows, summary):
        if chunk.lines:
            count(client.import_tasks(dataset_id, chunk.lines), chunk, summary)
        on_progress(summary)


def chunks(rows: Iterable[Row | RowFault], summary: Summary) -> Iterator[Chunk]:
    """The good rows in pieces; the bad ones go into `summary`."""
    chunk = Chunk()
    for row in rows:
        summary.num_rows += 1
        if isinstance(row, RowFault):
            summary.faults.append(row)
            continue
        if len(row.task.model_dump_json().encode()) >= MAX_TASK_BYTES:
            said = f"the task is longer than {MAX_TASK_BYTES // 2**20} MiB"
            summary.faults.append(RowFault(row.line, "", said, row.origin))
            continue
        chunk.add(row)
        if chunk.is_full:
            yield chunk
            chunk = Chunk()
    yield chunk


def count(receipt: ImportReceipt, chunk: Chunk, summary: Summary) -> None:
    """Count what became of a piece into `summary`."""
    summary.num_created += receipt.num_created
    summary.num_existing += receipt.num_existing
    refused = {error.line for error in receipt.errors}
    for error in receipt.errors:
        row = chunk.rows[error.line - 1]
        detail = f"refused by the sampler: {error.detail}"
        summary.faults.append(RowFault(row.line, error.pointer, detail, row.origin))
    for number, row in enumerate(chunk.rows, start=1):
        if number in refused:
            continue
        if row.task.split is Split.HELD_OUT:
            summary.num_held_out += 1
        else:
            summary.num_train += 1
        summary.sources[row.task.source] = summary.sources.get(row.task.source, 0) + 1
