"""Right completions of a run, in PostgreSQL: added by reports, pruned by folds, read for prompts.

Bounded: a fold keeps a few times the pool's size. Neighbours: `ledger` calls the writing half in
its transactions, `restoring` takes back and copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ...ports.demonstrations import DemonstrationRow
from .engine import raw
from .ledger_sql import IS_LIVE

KEPT_FACTOR = 4
"""Rows kept per place in the pool, so that prompt batches of before find theirs (our choice)."""
COLUMNS = ("apply_seq", "ordinal", "policy_version", "answer")
_PRUNE = """
DELETE FROM demonstrations WHERE run_id = $1 AND apply_seq <= (
    SELECT apply_seq FROM demonstrations WHERE run_id = $1
    ORDER BY apply_seq DESC OFFSET $2 LIMIT 1)
"""
_READ = f"""
SELECT {", ".join(COLUMNS)} FROM demonstrations WHERE run_id = $1 AND policy_version < $2
ORDER BY apply_seq DESC LIMIT $3
"""
TAKE_BACK = """
DELETE FROM demonstrations d USING checkpoints c
WHERE d.run_id = $1 AND c.run_id = $1 AND c.id = $2 AND d.apply_seq > c.apply_seq
"""
"""Those reported after a checkpoint."""
COPY = f"""
INSERT INTO demonstrations (run_id, {", ".join(COLUMNS)})
SELECT $1, {", ".join(COLUMNS)} FROM demonstrations WHERE run_id = $2 AND apply_seq <= $3
"""
"""Those that a fork begins with."""
_LIVE = f"SELECT ordinal FROM task_statistics WHERE {IS_LIVE} ORDER BY ordinal"


async def add(
    connection: asyncpg.Connection, run_id: str, rows: Sequence[DemonstrationRow]
) -> None:
    """Keep right completions; in a report's transaction."""
    await connection.copy_records_to_table(
        "demonstrations", records=[(run_id, *row) for row in rows], columns=("run_id", *COLUMNS)
    )


async def prune(connection: asyncpg.Connection, run_id: str, *, pool_size: int) -> None:
    """Drop the oldest beyond what is kept; in a fold's transaction."""
    await connection.execute(_PRUNE, run_id, KEPT_FACTOR * pool_size)


class DemonstrationViews:
    """`ports.demonstrations.Demonstrations`."""

    _engine: AsyncEngine

    async def demonstrations(
        self, run_id: str, *, before: int, limit: int
    ) -> list[DemonstrationRow]:
        """The newest of versions below `before`, newest first."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(_READ, run_id, before, limit)
        return [DemonstrationRow(**dict(record)) for record in found]

    async def live_tasks(self, run_id: str, column: int) -> Sequence[int]:
        """Tasks whose notes have a count other than 0 in this column, by ordinal."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(_LIVE, run_id, 8 * column + 7)
        return [record["ordinal"] for record in found]
