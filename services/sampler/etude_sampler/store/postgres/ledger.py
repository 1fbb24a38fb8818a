"""The ledger's transactions: commit a report, fold a version. Everything else: `ledger_views`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from etude_sampler.statistics import Shape

from ...errors import (
    DependencyUnavailable,
    IdempotencyKeyReused,
    LeaseSuperseded,
    RunNotFound,
    SamplerError,
    TaskNotLeased,
)
from ...ports.ledger import (
    CommitPlan,
    Committed,
    CommitView,
    FoldPlan,
    FoldView,
    LedgerRow,
    Receipted,
    ReportKey,
)
from . import ledger_sql as sql
from .bulk import task_features
from .checkpoints import insert_checkpoint
from .demonstrations import DemonstrationViews, add, prune
from .engine import fetch_pruned, raw
from .ledger_views import LedgerViews
from .sights import PostgresSights
from .snapshot_io import unhurried
from .statistics_rows import read_rows, write_columns

_TRIES = 8
"""Of a report whose version or epoch moves while it waits for the lock (our choice)."""


class _Raced(SamplerError):
    """The epoch or the version moved while the transaction read."""


class _Taken(_Raced):
    """The attempts are in the ledger already; the detail is their lease."""


class PostgresLedger(LedgerViews, DemonstrationViews, PostgresSights):
    """All of `ports.ledger.Ledger`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def commit_report(
        self,
        run_id: str,
        key: ReportKey,
        *,
        ordinals: Sequence[int],
        num_attempts: int,
        shape: Shape,
        plan: Callable[[CommitView], CommitPlan],
    ) -> Committed:
        """Replay the receipt, or plan and write, in one transaction.

        Raises:
            IdempotencyKeyReused: the key stands for another body.
            TaskNotLeased: the same attempts were reported under another key.
            LeaseSuperseded: the epoch was raised, or a later lease has reported a task.
            DependencyUnavailable: PostgreSQL does not answer; nothing is known to be written.
        """
        failure: Exception | None = None
        for _ in range(_TRIES):
            try:
                async with raw(self._engine) as connection:
                    return await self._commit_report(
                        connection,
                        run_id,
                        key=key,
                        ordinals=ordinals,
                        num_attempts=num_attempts,
                        shape=shape,
                        plan=plan,
                    )
            except (_Raced, asyncpg.UniqueViolationError) as error:
                if isinstance(failure, _Taken) and isinstance(error, _Taken):
                    break  # not by a twin of this call, whose receipt would have been found
                failure = error
        if isinstance(failure, _Taken):
            if await self._is_late(run_id, failure.detail):
                raise LeaseSuperseded("another try came after the lease had ended")
            raise TaskNotLeased("these attempts were reported under another Idempotency-Key")
        raise DependencyUnavailable("the run's version kept moving; nothing is written")

    async def _is_late(self, run_id: str, lease_id: str) -> bool:
        """Whether outcomes of the lease are kept as late."""
        async with raw(self._engine) as connection:
            found: bool = await connection.fetchval(sql.HAS_LATE, run_id, lease_id)
        return found

    async def _commit_report(
        self,
        connection: asyncpg.Connection,
        run_id: str,
        *,
        key: ReportKey,
        ordinals: Sequence[int],
        num_attempts: int,
        shape: Shape,
        plan: Callable[[CommitView], CommitPlan],
    ) -> Committed:
        async with connection.transaction():
            records = await connection.fetch(
                sql.READ, run_id, key.idempotency_key, list(ordinals), num_attempts
            )
            if not records:
                raise RunNotFound(f"no run {run_id!r}")
            head = records[0]
            found = read_rows([r for r in records if r["ordinal"] is not None], shape)
            if head["response"] is not None:
                if head["body_hash"] != key.body_hash:
                    raise IdempotencyKeyReused
                return Committed(head["response"], found, replayed=True)
            todo = plan(
                CommitView(head["epoch"], head["policy_version"], tuple(head["seqs"]), found)
            )
            try:
                await sql.copy_ledger(connection, run_id, todo.ledger)
            except asyncpg.UniqueViolationError as error:
                raise _Taken(todo.ledger[0].lease_id) from error
            if todo.demonstrations:
                await add(connection, run_id, todo.demonstrations)
            counts = await connection.fetchrow(
                sql.WRITE,
                run_id,
                *write_columns(todo.statistics),
                key.idempotency_key,
                key.body_hash,
                todo.receipt,
                todo.ledger[0].lease_id,
            )
            assert counts is not None
            if counts["ended"]:
                raise LeaseSuperseded("the lease ended before its report was committed")
            if counts["policy_version"] != head["policy_version"]:
                raise _Raced
            if counts["epoch"] != head["epoch"]:
                raise _Raced
            if counts["folded"] != len(todo.statistics.keys):
                raise LeaseSuperseded("a later lease has reported one of the tasks")
        return Committed(todo.receipt, todo.after, replayed=False)

    async def commit_late(self, run_id: str, rows: Sequence[LedgerRow], *, most: int) -> bool:
        """Keep outcomes of a superseded lease, out of the statistics; False: it has too many."""
        async with raw(self._engine) as connection, connection.transaction():
            await connection.execute(sql.LATE_LOCK, rows[0].lease_id)
            num_kept = await connection.fetchval(sql.NUM_LATE, run_id, rows[0].lease_id)
            if num_kept + len(rows) > most:
                return False
            seqs = await connection.fetchval(
                "SELECT ARRAY(SELECT nextval('apply_seq') FROM generate_series(1, $1))", len(rows)
            )
            columns = sql.ledger_arguments(rows)
            columns[0] = list(seqs)
            await connection.execute(sql.INSERT_LEDGER, run_id, *columns)
        return True

    async def end_lease(self, run_id: str, lease_id: str) -> bool:
        """Fence off a lease's reports for good; False while other work holds the run's lock."""
        async with raw(self._engine) as connection:
            try:
                async with connection.transaction():
                    await connection.execute(sql.LOCK_PATIENCE)
                    await connection.execute(sql.FOLD_LOCK, run_id)
                    await connection.execute(sql.END_LEASE, run_id, lease_id)
            except asyncpg.LockNotAvailableError:
                return False
        return True

    async def commit_version(
        self,
        run_id: str,
        key: ReportKey,
        plan: Callable[[FoldView], FoldPlan],
        *,
        with_notes: bool = False,
        with_features: bool = False,
        live_column: int | None = None,
    ) -> Receipted:
        """Replay the receipt, or fold and announce, in one transaction under the run's row lock.

        The exclusive lock waits for reports in flight, so the fold's range of apply sequence
        numbers is complete.
        """
        async with raw(self._engine) as connection, connection.transaction():
            await connection.execute(sql.FOLD_LOCK, run_id)
            head = await connection.fetchrow(sql.FOLD_HEAD, run_id)
            if head is None:
                raise RunNotFound(f"no run {run_id!r}")
            stored = await connection.fetchrow(
                "SELECT body_hash, response FROM receipts WHERE run_id = $1 AND key = $2",
                run_id,
                key.idempotency_key,
            )
            if stored is not None:
                if stored["body_hash"] != key.body_hash:
                    raise IdempotencyKeyReused
                return Receipted(stored["response"], replayed=True)
            records = await fetch_pruned(
                connection,
                f"{sql.READ_LEDGER} AND apply_seq > $2 AND verdict = 'applied' AND {sql.LIVE} "
                "ORDER BY apply_seq",
                run_id,
                head["folded_seq"],
            )
            groups = [sql.ledger_row(record) for record in records]
            last_seq = groups[-1].apply_seq if groups else head["folded_seq"]
            noted: list[asyncpg.Record] = []
            ordinals = list({row.ordinal for row in groups})
            if with_notes:
                noted = await connection.fetch(sql.READ_NOTES, run_id, ordinals)
            featured: list[asyncpg.Record] = []
            if with_features:
                featured = await connection.fetch(sql.READ_FEATURES, run_id, ordinals)
            live: list[asyncpg.Record] = []
            if live_column is not None:
                # Of a count as a double the last byte is 0 for 0 alone.
                live = await connection.fetch(sql.READ_LIVE, run_id, 8 * live_column + 7)
            todo = plan(
                FoldView(
                    head["policy_version"],
                    head["trainer_fence"],
                    head["epoch"],
                    head["allocator_state"],
                    json.loads(head["totals"]),
                    groups,
                    last_seq,
                    {record["ordinal"]: record["x"] for record in noted},
                    {record["ordinal"]: task_features(record) for record in featured},
                    [record["x"] for record in live],
                )
            )
            await connection.execute(
                sql.UPDATE_RUN,
                run_id,
                todo.policy_version,
                todo.trainer_fence,
                todo.weights_uri,
                todo.allocator_state,
                json.dumps(todo.totals),
                last_seq,
            )
            await connection.execute(
                sql.INSERT_VERSION,
                run_id,
                todo.policy_version,
                todo.weights_uri,
                json.dumps(todo.summary),
            )
            await connection.execute(
                sql.INSERT_RECEIPT, run_id, key.idempotency_key, key.body_hash, todo.receipt
            )
            if todo.replays:
                columns = [list(column) for column in zip(*todo.replays, strict=True)]
                await connection.execute(sql.INSERT_REPLAYS, run_id, *columns)
            if todo.pool_size is not None:
                await prune(connection, run_id, pool_size=todo.pool_size)
            if todo.checkpoint is not None:
                await unhurried(connection)
                await insert_checkpoint(connection, run_id, todo.checkpoint)
        return Receipted(todo.receipt, replayed=False)
