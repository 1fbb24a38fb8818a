"""Whole runs and datasets: gone for callers at once, their rows piece by piece.

A run's ledger goes as a table, detached and dropped without waiting for reports of other runs; only
the first release's runs share one, from which rows are deleted in batches. Which other tables hold
rows of runs is read from the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ...errors import DatasetNotFound, IllegalTransition, RunNotFound
from ...ports.retention import Removed
from .archive import quoted, run_tables
from .engine import raw
from .ledger_sql import FOLD_LOCK

_SHARED = "ledger_first"
"""The partition of the runs that the first release made."""
_REMOVE_DATASET = """
UPDATE datasets SET deleted_at = now(), name = name || ' ' || id
WHERE id = $1 AND deleted_at IS NULL RETURNING id, left(name, -1 - length(id)) AS name
"""
_PARTITION = """
SELECT c.oid::regclass::text AS name, i.inhdetachpending AS pending
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.oid = to_regclass(quote_ident('ledger_' || $1::text))
"""
_IN_SHARED = """
SELECT pg_get_expr(relpartbound, oid) LIKE '%' || quote_literal($1::text) || '%'
FROM pg_class WHERE oid = to_regclass($2::text)
"""


class Removal:
    """The removing half of `ports.retention.Keeper`."""

    _engine: AsyncEngine

    async def remove_run(self, run_id: str) -> Removed:
        """Take a run from its callers, or say that it is gone; waits for its reports in flight."""
        async with raw(self._engine) as connection, connection.transaction():
            await connection.execute(FOLD_LOCK, run_id)
            found = await connection.fetchrow(
                "SELECT name, status FROM runs WHERE id = $1 FOR UPDATE", run_id
            )
            if found is None:
                gone = await connection.fetchrow(
                    "SELECT id, name FROM deleted_runs WHERE id = $1", run_id
                )
                if gone is None:
                    raise RunNotFound(f"no run {run_id!r}")
                return Removed(**dict(gone))
            if found["status"] != "paused":
                raise IllegalTransition(f"run {run_id} is {found['status']}; pause it first")
            await connection.execute("DELETE FROM runs WHERE id = $1", run_id)
            await connection.execute(
                "INSERT INTO deleted_runs (id, name) VALUES ($1, $2) ON CONFLICT (id) "
                "DO UPDATE SET deleted_at = now(), purged_at = NULL, name = excluded.name",
                run_id,
                found["name"],
            )
        return Removed(run_id, found["name"])

    async def remove_dataset(self, dataset_id: str) -> Removed:
        """Take a dataset from its callers; its name is free again."""
        async with raw(self._engine) as connection, connection.transaction():
            found = await connection.fetchrow(
                "SELECT id FROM datasets WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
                dataset_id,
            )
            if found is None:
                raise DatasetNotFound(f"no dataset {dataset_id!r}")
            users = await connection.fetch(
                "SELECT name FROM runs WHERE dataset_id = $1 ORDER BY created_at LIMIT 4",
                dataset_id,
            )
            if users:
                names = ", ".join(user["name"] for user in users[:3])
                more = " and others" if len(users) > 3 else ""
                raise IllegalTransition(f"runs use the dataset: {names}{more}; delete them first")
            removed = await connection.fetchrow(_REMOVE_DATASET, dataset_id)
            assert removed is not None
        return Removed(**dict(removed))

    async def removed_runs(self) -> Sequence[Removed]:
        """Runs whose rows are not all gone."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT id, name FROM deleted_runs WHERE purged_at IS NULL ORDER BY id"
            )
        return [Removed(**dict(row)) for row in found]

    async def purge_run(self, run_id: str, *, limit: int) -> int:
        """Drop rows of a removed run; each statement is a transaction of its own."""
        async with raw(self._engine) as connection:
            going = await connection.fetchval(
                "SELECT true FROM deleted_runs WHERE id = $1 AND purged_at IS NULL", run_id
            )
            if not going:
                return 0
            num = await _drop_ledger(connection, run_id)
            if await connection.fetchval(_IN_SHARED, run_id, _SHARED):
                num += await _delete(connection, _SHARED, ("apply_seq",), run_id, limit)
            for table in await run_tables(connection):
                if table.name != "ledger":
                    num += await _delete(connection, table.name, table.key, run_id, limit)
            if num == 0:
                await connection.execute(
                    "UPDATE deleted_runs SET purged_at = now() WHERE id = $1", run_id
                )
        return num

    async def purge_datasets(self, *, limit: int) -> int:
        """Drop tasks of removed datasets, then the datasets."""
        async with raw(self._engine) as connection:
            status: str = await connection.execute(
                "DELETE FROM tasks WHERE (dataset_id, ordinal) IN (SELECT t.dataset_id, t.ordinal "
                "FROM tasks t JOIN datasets d ON d.id = t.dataset_id "
                "WHERE d.deleted_at IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM runs r WHERE r.dataset_id = d.id) LIMIT $1)",
                limit,
            )
            await connection.execute(
                "DELETE FROM datasets d WHERE deleted_at IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM tasks t WHERE t.dataset_id = d.id) "
                "AND NOT EXISTS (SELECT FROM runs r WHERE r.dataset_id = d.id)"
            )
        return int(status.split()[-1])


async def _drop_ledger(connection: asyncpg.Connection, run_id: str) -> int:
    """Drop a run's partition, whatever an interrupted attempt left of it; tables dropped."""
    found = await connection.fetchrow(_PARTITION, run_id)
    if found is None:
        return 0
    if found["pending"] is not None:
        how = "FINALIZE" if found["pending"] else "CONCURRENTLY"
        await connection.execute(f"ALTER TABLE ledger DETACH PARTITION {found['name']} {how}")
    await connection.execute(f"DROP TABLE {found['name']}")
    return 1


async def _delete(
    connection: asyncpg.Connection, table: str, key: tuple[str, ...], run_id: str, limit: int
) -> int:
    columns = quoted(("run_id", *key))
    status: str = await connection.execute(
        f"DELETE FROM {quoted((table,))} WHERE ({columns}) IN "
        f"(SELECT {columns} FROM {quoted((table,))} WHERE run_id = $1 LIMIT $2)",
        run_id,
        limit,
    )
    return int(status.split()[-1])
