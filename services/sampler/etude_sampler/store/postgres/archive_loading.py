"""A run from an archive into this database: all of it or nothing. The way out is `archive`.

The rows come as the lines that `archive` writes, without the run's id, which is put before each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ...errors import IllegalTransition
from .archive import columns_of, dataset_digest, quoted, run_tables, statistics_digest
from .engine import raw

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('import:' || $1, 0))"
_MEASURED_HERE = ("loading_epoch", "last_rebuild")
"""Columns of `runs` that tell of a Redis, hence not of an imported run."""
_TAKEN = """
SELECT (SELECT name FROM runs WHERE id = $1) AS same_id,
       (SELECT id FROM runs WHERE name = $2 AND id <> $1 LIMIT 1) AS same_name,
       (SELECT sha256 FROM imported_archives WHERE run_id = $1) AS imported,
       (SELECT purged_at IS NULL FROM deleted_runs WHERE id = $1) AS going
"""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A run that is to be imported."""

    run_id: str
    """As which it is stored."""
    name: str
    seal: str
    """SHA-256 that names the archive."""
    dataset_id: str
    dataset_name: str
    dataset_created_at: datetime
    num_tasks: int
    dataset_digest: str
    statistics_digest: str


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one table."""

    table: str
    columns: tuple[str, ...]
    num_rows: int
    lines: Callable[[], AsyncIterator[bytes]]
    """Its lines, in pieces of any size."""


async def load(
    engine: AsyncEngine,
    incoming: Incoming,
    parts: Sequence[Part],
    *,
    forget: Callable[[str], Awaitable[None]],
) -> bool:
    """Store a run in one transaction; False if this archive was imported before.

    The epoch is one above the archive's, so that every lease of before is fenced off, and a
    replica loads the run's lanes as after any loss of Redis.

    Args:
        engine: of `archive.plain_engine`.
        incoming: the run.
        parts: all its tables; `runs` and `tasks` among them.
        forget: drops what Redis may hold under the run's id.

    Raises:
        IllegalTransition: something of the same id or name is there, or the rows do not fit.
        DependencyUnavailable: PostgreSQL or Redis does not answer; nothing is imported.
    """
    try:
        async with raw(engine) as connection, connection.transaction():
            await connection.execute(_LOCK, incoming.run_id)
            if await _is_there(connection, incoming):
                return False
            await _check_columns(connection, parts)
            await forget(incoming.run_id)
            by_name = {part.table: part for part in parts}
            await _dataset(connection, incoming, by_name.pop("tasks"))
            await _run(connection, incoming, by_name.pop("runs"))
            for part in by_name.values():
                await _copy(connection, part, key="run_id", value=incoming.run_id)
            await _finish(connection, incoming)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise IllegalTransition(f"the archive's rows do not fit this database: {error}") from error
    return True


async def _is_there(connection: asyncpg.Connection, incoming: Incoming) -> bool:
    found = await connection.fetchrow(_TAKEN, incoming.run_id, incoming.name)
    assert found is not None
    if found["same_id"] is not None:
        if found["imported"] == incoming.seal:
            return True
        raise IllegalTransition(
            f"run {incoming.run_id} ({found['same_id']}) is in this database; "
            "import the archive beside it with --name"
        )
    if found["same_name"] is not None:
        raise IllegalTransition(
            f"{found['same_name']} is called {incoming.name!r}; choose another name with --name"
        )
    if found["going"]:
        raise IllegalTransition(f"run {incoming.run_id} is still being removed; try `etude gc`")
    await connection.execute("DELETE FROM deleted_runs WHERE id = $1", incoming.run_id)
    return False


async def _check_columns(connection: asyncpg.Connection, parts: Sequence[Part]) -> None:
    tables = {table.name: set(table.columns) for table in await run_tables(connection)}
    for name in ("runs", "tasks"):
        tables[name] = set(await columns_of(connection, name))
    for part in parts:
        unknown = set(part.columns) - tables.get(part.table, set())
        if part.num_rows and unknown:
            named = f"{part.table}.{min(unknown)}" if part.table in tables else part.table
            raise IllegalTransition(
                f"the archive holds {named}, which this database does not know: "
                "upgrade Etude and run `etude migrate`"
            )


async def _dataset(connection: asyncpg.Connection, incoming: Incoming, tasks: Part) -> None:
    found = await connection.fetchrow(
        "SELECT name, deleted_at FROM datasets WHERE id = $1 FOR UPDATE", incoming.dataset_id
    )
    if found is None:
        name = incoming.dataset_name
        if await connection.fetchval("SELECT true FROM datasets WHERE name = $1", name):
            name = f"{name} ({incoming.dataset_id})"
        await connection.execute(
            "INSERT INTO datasets (id, name, num_tasks, created_at) VALUES ($1, $2, $3, $4)",
            incoming.dataset_id,
            name,
            incoming.num_tasks,
            incoming.dataset_created_at,
        )
        await _copy(connection, tasks, key="dataset_id", value=incoming.dataset_id)
        return
    here = await dataset_digest(connection, incoming.dataset_id, num_tasks=incoming.num_tasks)
    if here != incoming.dataset_digest or found["deleted_at"] is not None:
        raise IllegalTransition(
            f"dataset {incoming.dataset_id} ({found['name']}) of this database "
            + ("is being removed" if found["deleted_at"] else "holds other tasks")
        )


async def _run(connection: asyncpg.Connection, incoming: Incoming, part: Part) -> None:
    """The run's own row, under its new id and name, by way of a table of this transaction."""
    await connection.execute(
        "CREATE TEMPORARY TABLE incoming_run (LIKE runs INCLUDING DEFAULTS) ON COMMIT DROP"
    )
    copied = await connection.copy_to_table(
        "incoming_run", source=part.lines(), columns=list(part.columns)
    )
    blank = [name for name in _MEASURED_HERE if name in part.columns]
    await connection.execute(
        "UPDATE incoming_run SET id = $1, name = $2, epoch = epoch + 1, "
        "spec = jsonb_set(spec, '{name}', to_jsonb($2::text))"
        + "".join(f", {name} = NULL" for name in blank),
        incoming.run_id,
        incoming.name,
    )
    names = quoted(await columns_of(connection, "runs"))
    await connection.execute(f"INSERT INTO runs ({names}) SELECT {names} FROM incoming_run")
    _check_count(part, copied)


async def _copy(connection: asyncpg.Connection, part: Part, *, key: str, value: str) -> None:
    if part.num_rows == 0:
        return
    copied = await connection.copy_to_table(
        part.table, source=_prefixed(part.lines(), value), columns=[key, *part.columns]
    )
    _check_count(part, copied)


def _check_count(part: Part, status: str) -> None:
    num = int(status.split()[-1])
    if num != part.num_rows:
        raise IllegalTransition(
            f"the archive promises {part.num_rows} rows of {part.table} and holds {num}"
        )


async def _prefixed(lines: AsyncIterator[bytes], value: str) -> AsyncIterator[bytes]:
    """The lines with one more column before the others."""
    prefix = value.encode() + b"\t"
    at_start = True
    async for piece in lines:
        if not piece:
            continue
        ends = piece.endswith(b"\n")
        body = piece[:-1] if ends else piece
        marked = body.replace(b"\n", b"\n" + prefix) + (b"\n" if ends else b"")
        yield prefix + marked if at_start else marked
        at_start = ends


async def _finish(connection: asyncpg.Connection, incoming: Incoming) -> None:
    digest = await statistics_digest(connection, incoming.run_id)
    if digest != incoming.statistics_digest:
        raise IllegalTransition("the imported statistics differ from the archive's digest")
    await connection.execute(
        "SELECT setval('apply_seq', greatest(nextval('apply_seq'), (SELECT max(apply_seq) "
        "FROM ledger WHERE run_id = $1)))",
        incoming.run_id,
    )
    await connection.execute(
        "INSERT INTO imported_archives (run_id, sha256) VALUES ($1, $2)",
        incoming.run_id,
        incoming.seal,
    )
    await connection.execute("ANALYZE tasks")  # draws follow at once, see runs.py
