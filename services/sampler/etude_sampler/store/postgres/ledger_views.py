"""Reading the ledger, statistics and versions; epochs, decisions and predictions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from etude_sampler.statistics import Floats, Shape

from ...errors import IdempotencyKeyReused
from ...ports.decisions import LoggedDecision
from ...ports.fence import epoch_of
from ...ports.ledger import BareStatistics, LedgerRow, ReportKey, StatisticsRows, VersionRow
from . import ledger_sql as sql
from .bulk import LOADED, LOADING_EPOCH, read_bare
from .engine import fetch_pruned, raw
from .statistics_rows import read_rows


class LedgerViews:
    """The reading half of `ports.ledger.Ledger`."""

    _engine: AsyncEngine

    async def receipt(self, run_id: str, key: ReportKey) -> bytes | None:
        """The receipt stored under a key."""
        async with raw(self._engine) as connection:
            stored = await connection.fetchrow(
                "SELECT body_hash, response FROM receipts WHERE run_id = $1 AND key = $2",
                run_id,
                key.idempotency_key,
            )
        if stored is None:
            return None
        if stored["body_hash"] != key.body_hash:
            raise IdempotencyKeyReused
        response: bytes = stored["response"]
        return response

    async def reported(self, run_id: str, lease_id: str) -> set[int]:
        """Ordinals already reported under a lease."""
        async with raw(self._engine) as connection:
            found = await fetch_pruned(
                connection,
                "SELECT DISTINCT ordinal FROM ledger WHERE run_id = $1 AND lease_id = $2 "
                "AND verdict <> 'late'",
                run_id,
                lease_id,
            )
        return {record["ordinal"] for record in found}

    async def statistics(
        self, run_id: str, ordinals: Sequence[int], shape: Shape
    ) -> StatisticsRows:
        """Statistics of tasks at every scaffold level."""
        async with raw(self._engine) as connection:
            records = await connection.fetch(sql.READ_STATISTICS, run_id, list(ordinals))
        return read_rows(records, shape)

    async def bare_between(
        self, run_id: str, first: int, last: int, shape: Shape
    ) -> BareStatistics:
        """Un-scaffolded statistics of the tasks `first` to `last`, by ordinal."""
        async with raw(self._engine) as connection:
            return await read_bare(connection, run_id, first=first, last=last, shape=shape)

    async def last_seen_at(self, run_id: str, versions: Sequence[int]) -> list[int]:
        """Tasks whose last applied group was drawn at one of these versions."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT ordinal FROM task_statistics WHERE run_id = $1 AND kind = 'none' AND "
                "level = 0 AND last_version = ANY($2::int[]) ORDER BY ordinal",
                run_id,
                list(versions),
            )
        return [record["ordinal"] for record in found]

    async def never_seen(
        self, run_id: str, dataset_id: str, *, first: int, limit: int
    ) -> list[int]:
        """Ordinals from `first` on of tasks without un-scaffolded statistics, ascending."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT ordinal FROM tasks AS t WHERE dataset_id = $2 AND ordinal >= $3 AND "
                "NOT EXISTS (SELECT 1 FROM task_statistics AS s WHERE s.run_id = $1 AND "
                "s.ordinal = t.ordinal AND s.kind = 'none' AND s.level = 0) "
                "ORDER BY ordinal LIMIT $4",
                run_id,
                dataset_id,
                first,
                limit,
            )
        return [record["ordinal"] for record in found]

    async def loading_epoch(self, run_id: str) -> int:
        """The epoch to load: a new one, or that of a load that nobody has opened."""
        async with raw(self._engine) as connection, connection.transaction():
            await connection.execute(sql.FOLD_LOCK, run_id)
            epoch: int = await connection.fetchval(LOADING_EPOCH, run_id)
        return epoch

    async def loaded(self, run_id: str, epoch: int, found: Mapping[str, object]) -> bool:
        """Note that an epoch is about to be opened, and what was found; False: it is over."""
        async with raw(self._engine) as connection:
            done = await connection.fetchval(LOADED, run_id, epoch, json.dumps(found))
        return done is not None

    @asynccontextmanager
    async def rebuild_lock(self, run_id: str, *, wait: bool = False) -> AsyncIterator[bool]:
        """Exactly one holder per run, for the life of one database connection."""
        lock = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
        async with raw(self._engine) as connection:
            name = f"rebuild:{run_id}"
            taken = await connection.fetchval(f"SELECT {lock}(hashtextextended($1, 0))", name)
            held = wait or bool(taken)
            try:
                yield held
            finally:
                if held:
                    await connection.execute(
                        "SELECT pg_advisory_unlock(hashtextextended($1, 0))", name
                    )

    async def store_decisions(self, run_id: str, decisions: Sequence[LoggedDecision]) -> None:
        """Keep drained decisions; repeatable."""
        async with raw(self._engine) as connection:
            await connection.execute(
                "INSERT INTO decisions (run_id, epoch, number, kind, lease_id, fence, "
                "policy_version, num_waiting, tasks, records, at_ms) SELECT $1, * FROM unnest("
                "$2::int[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::int[], "
                "$8::int[], $9::text[], $10::bytea[], $11::bigint[]) ON CONFLICT DO NOTHING",
                run_id,
                [epoch_of(d.fence) for d in decisions],
                [d.number for d in decisions],
                [d.kind for d in decisions],
                [d.lease_id for d in decisions],
                [d.fence for d in decisions],
                [d.policy_version for d in decisions],
                [d.num_waiting for d in decisions],
                [d.tasks for d in decisions],
                [d.records for d in decisions],
                [int(d.stream_id.split("-")[0]) for d in decisions],
            )

    async def store_predictions(
        self, run_id: str, *, ordinals: Sequence[int], values: Floats, version: int
    ) -> None:
        """Keep the latest prediction of each task."""
        async with raw(self._engine) as connection:
            await connection.execute(
                "INSERT INTO predictions (run_id, ordinal, value, policy_version) "
                "SELECT $1, ordinal, value, $4 FROM unnest($2::int[], $3::float8[]) "
                "AS t(ordinal, value) ON CONFLICT (run_id, ordinal) DO UPDATE SET "
                "value = excluded.value, policy_version = excluded.policy_version "
                "WHERE predictions.policy_version <= excluded.policy_version",
                run_id,
                list(ordinals),
                [float(value) for value in values],
                version,
            )

    async def prediction(self, run_id: str, ordinal: int) -> float | None:
        """The latest prediction of a task."""
        async with raw(self._engine) as connection:
            value: float | None = await connection.fetchval(
                "SELECT value FROM predictions WHERE run_id = $1 AND ordinal = $2", run_id, ordinal
            )
        return value

    async def predictions(self, run_id: str, ordinals: Sequence[int]) -> Mapping[int, float]:
        """The latest predictions of tasks; those without one are left out."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT ordinal, value FROM predictions WHERE run_id = $1 "
                "AND ordinal = ANY($2::int[])",
                run_id,
                list(ordinals),
            )
        return {row["ordinal"]: row["value"] for row in found}

    async def versions(self, run_id: str, *, after: int, limit: int) -> list[VersionRow]:
        """Policy versions above `after`, ascending."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT version, weights_uri, summary::text AS summary, created_at "
                "FROM policy_versions WHERE run_id = $1 AND version > $2 ORDER BY version LIMIT $3",
                run_id,
                after,
                limit,
            )
        return [
            VersionRow(r["version"], r["weights_uri"], json.loads(r["summary"]), r["created_at"])
            for r in found
        ]

    async def since_fold(self, run_id: str, folded_seq: int) -> Sequence[LedgerRow]:
        """Applied groups that no version has folded yet."""
        return await self._ledger(
            f"AND apply_seq > $2 AND verdict = 'applied' AND {sql.LIVE} ORDER BY apply_seq",
            run_id,
            folded_seq,
        )

    async def recent(self, run_id: str, ordinal: int, limit: int) -> Sequence[LedgerRow]:
        """Last groups of a task, newest first."""
        return await self._ledger(
            f"AND ordinal = $2 AND {sql.LIVE} ORDER BY apply_seq DESC LIMIT $3",
            run_id,
            ordinal,
            limit,
        )

    async def num_late(self, run_id: str) -> int:
        """Ledger rows that came too late to count."""
        async with raw(self._engine) as connection:
            (found,) = await fetch_pruned(
                connection,
                "SELECT count(*) FROM ledger WHERE run_id = $1 AND verdict = 'late'",
                run_id,
            )
        num: int = found["count"]
        return num

    async def num_replayed(self, run_id: str) -> int:
        """Groups trained on again, so far."""
        async with raw(self._engine) as connection:
            (found,) = await fetch_pruned(
                connection,
                f"SELECT count(*) FROM ledger WHERE run_id = $1 AND verdict = 'replayed' "
                f"AND {sql.LIVE}",
                run_id,
            )
        num: int = found["count"]
        return num

    async def _ledger(self, where: str, *arguments: object) -> list[LedgerRow]:
        async with raw(self._engine) as connection:
            records = await fetch_pruned(connection, f"{sql.READ_LEDGER} {where}", *arguments)
        return [sql.ledger_row(record) for record in records]
