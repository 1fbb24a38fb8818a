"""A run's rows as lines of text, out of one snapshot; and the digest that says two are the same.

Lines are what `COPY ... TO STDOUT` writes in text format: tab-separated, one row a line, floats
with all their bits, bytes in hexadecimal. Read by `archives`; the way back is `archive_loading`.
Which tables belong to a run is read from the catalogue (every one with a column `run_id`), so a
table that a later revision adds is neither forgotten here nor by `removal`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ...errors import RunNotFound
from .engine import raw
from .ledger_sql import FOLD_LOCK

NOT_ARCHIVED = ("imported_archives",)
"""Tables with a `run_id` that say something of this database, not of the run."""
_PLAIN_TEXT = {
    "application_name": "etude-archive",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
_RUN_TABLES = """
SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns,
       (SELECT array_agg(k.attname::text ORDER BY array_position(i.indkey::int[], k.attnum::int))
        FROM pg_index i JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = ANY(i.indkey)
        WHERE i.indrelid = c.oid AND i.indisprimary) AS key
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
     AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT c.relispartition AND EXISTS (SELECT FROM pg_attribute r
      WHERE r.attrelid = c.oid AND r.attname = 'run_id' AND NOT r.attisdropped)
GROUP BY c.oid ORDER BY c.relname
"""
_RUN_HEAD = """
SELECT r.id, r.name, r.dataset_id, d.name AS dataset_name, d.created_at AS dataset_created_at,
       r.policy_version, (SELECT count(*) FROM tasks WHERE dataset_id = r.dataset_id) AS num_tasks,
       (SELECT version_num FROM alembic_version) AS revision,
       (SELECT array_agg(id ORDER BY created_at) FROM runs WHERE name = $1) AS namesakes
FROM runs r JOIN datasets d ON d.id = r.dataset_id
WHERE r.id = $1 OR r.name = $1 ORDER BY r.id = $1 DESC, r.created_at DESC LIMIT 1
"""
_DATASET_KEYS = "SELECT ordinal, id FROM tasks WHERE dataset_id = $1 AND ordinal <= $2"

Write = Callable[[bytes], Coroutine[object, object, None]]


@dataclass(frozen=True, slots=True)
class RunTable:
    """A table that holds rows of runs."""

    name: str
    columns: tuple[str, ...]
    """All but `run_id`, in the table's order."""
    key: tuple[str, ...]
    """Of the primary key, all but `run_id`: the order in which rows are written."""


@dataclass(frozen=True, slots=True)
class RunHead:
    """What an archive says of its run, and of the database it came from."""

    id: str
    name: str
    dataset_id: str
    dataset_name: str
    dataset_created_at: datetime
    policy_version: int
    num_tasks: int
    """Rows of the dataset, held-out ones included."""
    revision: str
    """Of the schema."""


def plain_engine(url: str, *, timeout_s: float) -> AsyncEngine:
    """Connections that write and read values as archives hold them, and may work for long."""
    return create_async_engine(
        url,
        poolclass=NullPool,
        connect_args={"timeout": timeout_s, "server_settings": _PLAIN_TEXT},
    )


async def run_tables(connection: asyncpg.Connection) -> list[RunTable]:
    """Every table of this database that holds rows of runs."""
    return [
        RunTable(
            row["name"],
            tuple(name for name in row["columns"] if name != "run_id"),
            tuple(name for name in row["key"] if name != "run_id"),
        )
        for row in await connection.fetch(_RUN_TABLES)
    ]


async def columns_of(connection: asyncpg.Connection, table: str) -> tuple[str, ...]:
    """A table's own columns, in order."""
    found = await connection.fetch(
        "SELECT attname::text AS name FROM pg_attribute WHERE attrelid = $1::text::regclass "
        "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        table,
    )
    return tuple(row["name"] for row in found)


def quoted(names: tuple[str, ...]) -> str:
    """Column names for a statement."""
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


class RunReader:
    """One snapshot of a run; made by `reading`."""

    def __init__(self, connection: asyncpg.Connection, head: RunHead) -> None:
        self._connection = connection
        self.head = head

    async def tables(self) -> list[RunTable]:
        """Tables to archive: the run itself, its dataset's tasks, then rows by run."""
        runs = RunTable("runs", await columns_of(self._connection, "runs"), ("id",))
        columns = await columns_of(self._connection, "tasks")
        tasks = RunTable(
            "tasks", tuple(name for name in columns if name != "dataset_id"), ("ordinal",)
        )
        by_run = await run_tables(self._connection)
        return [tasks, runs, *(table for table in by_run if table.name not in NOT_ARCHIVED)]

    async def count(self, table: RunTable) -> int:
        """Rows of a table that `write` will write."""
        where, value = self._of(table)
        num: int = await self._connection.fetchval(
            f"SELECT count(*) FROM {quoted((table.name,))} WHERE {where}", value
        )
        return num

    async def write(self, table: RunTable, write: Write) -> int:
        """Hand a table's rows over in pieces, ordered by key; the number of rows."""
        where, value = self._of(table)
        status = await self._connection.copy_from_query(
            f"SELECT {quoted(table.columns)} FROM {quoted((table.name,))} WHERE {where} "
            f"ORDER BY {quoted(table.key) or 1}",
            value,
            output=write,
        )
        return int(status.split()[-1])

    async def digest(self) -> str:
        """See `statistics_digest`."""
        return await statistics_digest(self._connection, self.head.id)

    async def dataset_digest(self) -> str:
        """See `dataset_digest`."""
        head = self.head
        return await dataset_digest(self._connection, head.dataset_id, num_tasks=head.num_tasks)

    def _of(self, table: RunTable) -> tuple[str, str]:
        if table.name == "runs":
            return "id = $1", self.head.id
        if table.name == "tasks":
            return "dataset_id = $1", self.head.dataset_id
        return "run_id = $1", self.head.id


@asynccontextmanager
async def reading(
    engine: AsyncEngine, run: str, *, drain: Callable[[str], Awaitable[None]]
) -> AsyncIterator[RunReader]:
    """A run, by id or the only one of that name, as it is at this moment, while it goes on.

    Args:
        engine: of `plain_engine`.
        run: id or name.
        drain: brings what the run has logged until now into the database. Reports wait for it,
            so that the snapshot has the draw of every group in its ledger.

    Raises:
        RunNotFound: there is none, or several have the name.
        DependencyUnavailable: PostgreSQL does not answer.
    """
    async with raw(engine) as connection:
        run_id = (await _head(connection, run)).id
        snapshot = connection.transaction(isolation="repeatable_read", readonly=True)
        async with raw(engine) as other, other.transaction():
            await other.execute(FOLD_LOCK, run_id)
            await drain(run_id)
            await snapshot.start()
            try:
                head = await _head(connection, run_id)
            except BaseException:
                await snapshot.rollback()
                raise
        try:
            yield RunReader(connection, head)
        finally:
            await snapshot.rollback()


async def _head(connection: asyncpg.Connection, run: str) -> RunHead:
    found = await connection.fetchrow(_RUN_HEAD, run)
    if found is None:
        raise RunNotFound(f"no run {run!r}")
    head = dict(found)
    namesakes = head.pop("namesakes") or []
    if head["id"] != run and len(namesakes) > 1:
        ids = ", ".join(namesakes)
        raise RunNotFound(f"{len(namesakes)} runs are called {run!r}: {ids}; give an id")
    return RunHead(**head)


async def _digest(connection: asyncpg.Connection, query: str, *arguments: object) -> str:
    hashed = hashlib.sha256()

    async def update(data: bytes) -> None:
        hashed.update(data)

    await connection.copy_from_query(query, *arguments, output=update)
    return hashed.hexdigest()


async def statistics_digest(connection: asyncpg.Connection, run_id: str) -> str:
    """SHA-256 of a run's statistics, every bit of them, in order; the run's id is left out.

    The connection must be one of `plain_engine`, which fixes how values are written.
    """
    plain = await _digest(
        connection,
        "SELECT ordinal, kind, level, fence, s, f, ema, z_easy, z_hard, abs_a, reward_mean, "
        "reward_var, full_visits, n, last_version, m, v FROM task_statistics WHERE run_id = $1 "
        "ORDER BY ordinal, kind, level",
        run_id,
    )
    noted = "x" in await columns_of(connection, "task_statistics") and await connection.fetchval(
        "SELECT EXISTS (SELECT FROM task_statistics WHERE run_id = $1 AND x <> ''::bytea)", run_id
    )
    if not noted:  # as before there were notes, so that old archives stay what they were
        return plain
    notes = await _digest(
        connection,
        "SELECT ordinal, kind, level, x FROM task_statistics WHERE run_id = $1 "
        "ORDER BY ordinal, kind, level",
        run_id,
    )
    return hashlib.sha256(f"{plain} {notes}".encode()).hexdigest()


async def dataset_digest(connection: asyncpg.Connection, dataset_id: str, *, num_tasks: int) -> str:
    """SHA-256 of a dataset's first task ids (each a content hash) in order."""
    query = f"{_DATASET_KEYS} ORDER BY ordinal"
    return await _digest(connection, query, dataset_id, num_tasks - 1)
