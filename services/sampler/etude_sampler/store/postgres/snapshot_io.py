"""Snapshots on a connection: read a run's rows, put them back. Caller holds the transaction.

Neighbours: `snapshot` knows the bytes, `checkpoints` and `restoring` the transactions.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator

import asyncpg

from etude_sampler.statistics import Shape

from ...errors import IllegalTransition
from .snapshot import (
    PREDICTIONS,
    STATISTICS,
    Snapshot,
    SnapshotDamaged,
    Table,
    copy_chunks,
    parse_copy,
    unpack,
)
from .statistics_rows import packed_fresh

LONG_S = 600.0
"""Longest statement of a checkpoint, restore or fork (our choice; a million tasks take seconds)."""
_NAMES = [name for name, _ in STATISTICS]
_COMPUTED = {
    "kind": "array_position($2::text[], kind) - 1",
    "x": "CASE WHEN x = ''::bytea THEN $3::bytea ELSE x END",
}
_READ_STATISTICS = f"""
SELECT {", ".join(_COMPUTED.get(name, name) for name in _NAMES)}
FROM task_statistics WHERE run_id = $1
ORDER BY ordinal, array_position($2::text[], kind), level
"""
_READ_PREDICTIONS = """
SELECT ordinal, value, policy_version FROM predictions WHERE run_id = $1 ORDER BY ordinal
"""


async def unhurried(connection: asyncpg.Connection) -> None:
    """Let this transaction's statements take up to `LONG_S`."""
    await connection.execute(f"SET LOCAL statement_timeout = {int(1000 * LONG_S)}")
    await connection.execute(
        f"SET LOCAL idle_in_transaction_session_timeout = {int(1000 * LONG_S)}"
    )


async def read_snapshot(connection: asyncpg.Connection, run_id: str, shape: Shape) -> Snapshot:
    """A run's statistics and predictions, as this transaction sees them."""
    found = await connection.fetch(
        "SELECT DISTINCT kind FROM task_statistics WHERE run_id = $1", run_id, timeout=LONG_S
    )
    kinds = sorted(record["kind"] for record in found)
    statistics, predictions = io.BytesIO(), io.BytesIO()
    await connection.copy_from_query(
        _READ_STATISTICS,
        run_id,
        kinds,
        packed_fresh(shape),
        output=statistics,
        format="binary",
        timeout=LONG_S,
    )
    num_subtasks, num_notes = shape.num_subtasks, len(shape.fresh)
    await connection.copy_from_query(
        _READ_PREDICTIONS, run_id, output=predictions, format="binary", timeout=LONG_S
    )

    def parse() -> Snapshot:
        return Snapshot(
            num_subtasks,
            tuple(kinds),
            parse_copy(statistics.getvalue(), STATISTICS, num_subtasks, num_notes=num_notes),
            parse_copy(predictions.getvalue(), PREDICTIONS, num_subtasks),
            num_notes,
        )

    return await asyncio.to_thread(parse)


async def stored_snapshot(
    connection: asyncpg.Connection, run_id: str, checkpoint_id: str
) -> Snapshot:
    """The snapshot of a checkpoint, checked against its digest.

    Raises:
        IllegalTransition: it is not what was stored.
    """
    record = await connection.fetchrow(
        "SELECT data, sha256, format FROM checkpoints WHERE run_id = $1 AND id = $2",
        run_id,
        checkpoint_id,
        timeout=LONG_S,
    )
    assert record is not None, "the caller has locked it"
    try:
        return await asyncio.to_thread(
            unpack, record["data"], sha256=record["sha256"], number=record["format"]
        )
    except SnapshotDamaged as error:
        raise IllegalTransition(f"checkpoint {checkpoint_id} is damaged: {error}") from error


async def write_snapshot(connection: asyncpg.Connection, run_id: str, snapshot: Snapshot) -> None:
    """Add a snapshot's rows to a run that has none."""
    columns = [(name, kind) for name, kind in STATISTICS if name != "kind"]
    for index, kind in enumerate(snapshot.kinds):
        mine = snapshot.statistics["kind"] == index
        rows: Table = {name: column[mine] for name, column in snapshot.statistics.items()}
        await connection.copy_to_table(
            "task_statistics",
            source=_stream(copy_chunks(rows, columns, texts=[("run_id", run_id), ("kind", kind)])),
            columns=["run_id", "kind", *(name for name, _ in columns)],
            format="binary",
            timeout=LONG_S,
        )
    await connection.copy_to_table(
        "predictions",
        source=_stream(copy_chunks(snapshot.predictions, PREDICTIONS, texts=[("run_id", run_id)])),
        columns=["run_id", *(name for name, _ in PREDICTIONS)],
        format="binary",
        timeout=LONG_S,
    )


async def _stream(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks made in a thread, so that the loop stays free."""
    while True:
        chunk = await asyncio.to_thread(next, chunks, b"")
        if not chunk:
            return
        yield chunk
