"""The history of a run for replay (`ports.history`): one read-only snapshot, in pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from etude_proto.v1.curriculum import LanesBy
from etude_sampler.curriculum.levels import lane_members
from etude_sampler.statistics import Shape, TaskStatistics

from ...errors import RunNotFound
from ...ports.catalog import TaskFeatures
from ...ports.decisions import LoggedDecision
from ...ports.history import Discard, EpochLog, FoldedVersion, Head, Origin
from ...ports.ledger import LedgerRow, StatisticsKey, StatisticsRows
from . import ledger_sql as sql
from .bulk import MEMBERS, read_features
from .engine import raw
from .snapshot import Snapshot
from .snapshot_io import stored_snapshot
from .statistics_rows import COLUMNS, read_rows, unpack_rows

_PAGE_DECISIONS = 1000
_PAGE_ROWS = 5000
_PAGE_TASKS = 50_000
_LONG_S = 600.0
"""Longest statement, and longest pause between two (our choice; pages take milliseconds)."""
_EPOCHS = """
SELECT epoch, min(number) AS first, max(number) AS last, count(*) AS num_decisions,
       coalesce(max(fence) FILTER (WHERE kind = 'draw'), 0) AS last_fence
FROM decisions WHERE run_id = $1 GROUP BY epoch ORDER BY epoch
"""
_GAPS = """
SELECT number + 1 AS first, next - 1 AS last FROM (
    SELECT number, lead(number) OVER (ORDER BY number) AS next
    FROM decisions WHERE run_id = $1 AND epoch = $2
) pairs WHERE next > number + 1 ORDER BY number
"""
_DECISIONS = """
SELECT number, kind, lease_id, fence, policy_version, num_waiting, tasks, records, at_ms
FROM decisions WHERE run_id = $1 AND epoch = $2 AND number > $3 AND number <= $4
ORDER BY number LIMIT $5
"""
_LAST_APPLIED = """
SELECT lease_id, ordinal, max(apply_seq) AS seq FROM ledger
WHERE run_id = $1 AND lease_id = ANY($2::text[]) AND verdict = 'applied'
GROUP BY lease_id, ordinal
"""
_VERSIONS = """
SELECT version, summary::text AS summary FROM policy_versions WHERE run_id = $1 ORDER BY version
"""
_DISCARDED = """
SELECT version, (content -> 'summary')::text AS summary FROM discarded_versions
WHERE run_id = $1 AND restore_id = $2 ORDER BY version
"""
_TASKS = """
SELECT ordinal, {members} AS members FROM tasks
WHERE dataset_id = $1 AND split = 'train' AND ($2::text[] IS NULL OR source = ANY($2::text[]))
  AND ordinal > $3 ORDER BY ordinal LIMIT $4
"""
_ORIGIN = """
SELECT c.id, c.apply_seq, c.policy_version, c.allocator_state
FROM runs r JOIN checkpoints c ON c.run_id = r.id AND c.number = 1 AND c.label = 'fork'
WHERE r.id = $1 AND r.forked_from IS NOT NULL
"""


def _folded(record: asyncpg.Record) -> FoldedVersion:
    summary = json.loads(record["summary"])
    return FoldedVersion(record["version"], int(summary["num_groups"]), summary)


class PostgresHistory:
    """`ports.history.History` on one connection, in one transaction."""

    def __init__(self, connection: asyncpg.Connection, run_id: str) -> None:
        self._connection = connection
        self._run_id = run_id

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self._connection.fetch(
            statement, self._run_id, *arguments, timeout=_LONG_S
        )
        return found

    async def head(self) -> Head:
        """Raises `RunNotFound`."""
        found = await self._fetch(
            "SELECT epoch, policy_version, folded_seq, allocator_state FROM runs WHERE id = $1"
        )
        if not found:
            raise RunNotFound(f"no run {self._run_id!r}")
        return Head(**dict(found[0]))

    async def origin(self, shape: Shape) -> Origin | None:
        """The checkpoint that a fork was given as its first."""
        found = await self._fetch(_ORIGIN)
        if not found:
            return None
        record = found[0]
        snapshot = await stored_snapshot(self._connection, self._run_id, record["id"])
        return Origin(
            record["apply_seq"],
            record["policy_version"],
            record["allocator_state"],
            _rows_of(snapshot, shape),
        )

    async def epochs(self) -> list[EpochLog]:
        """Epochs of which decisions were drained."""
        return [EpochLog(**dict(record)) for record in await self._fetch(_EPOCHS)]

    async def gaps(self, epoch: int) -> list[tuple[int, int]]:
        """Missing numbers, by a window over the index."""
        return [(record["first"], record["last"]) for record in await self._fetch(_GAPS, epoch)]

    async def decisions(
        self, epoch: int, *, last: int | None
    ) -> AsyncIterator[list[LoggedDecision]]:
        """Pages by number."""
        before, until = -1, (1 << 62) if last is None else last
        while found := await self._fetch(_DECISIONS, epoch, before, until, _PAGE_DECISIONS):
            before = found[-1]["number"]
            yield [
                LoggedDecision(
                    f"{r['at_ms']}-0",
                    r["number"],
                    r["kind"],
                    r["lease_id"],
                    r["fence"],
                    r["policy_version"],
                    r["num_waiting"],
                    r["tasks"],
                    r["records"],
                )
                for r in found
            ]

    async def applied(self, *, skip: Sequence[tuple[int, int]]) -> AsyncIterator[list[LedgerRow]]:
        """Pages in apply order."""
        before = -1
        statement = (
            f"{sql.READ_LEDGER} AND apply_seq > $2 AND verdict = 'applied' "
            "ORDER BY apply_seq LIMIT $3"
        )
        while found := await self._fetch(statement, before, _PAGE_ROWS):
            before = found[-1]["apply_seq"]
            rows = [sql.ledger_row(record) for record in found]
            yield [
                row
                for row in rows
                if not any(after < row.apply_seq <= last for after, last in skip)
            ]

    async def last_applied(self, lease_ids: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """By the ledger's index on leases."""
        found = await self._fetch(_LAST_APPLIED, list(lease_ids))
        return {(r["lease_id"], r["ordinal"]): r["seq"] for r in found}

    async def versions(self) -> list[FoldedVersion]:
        """What `policy_versions` holds."""
        return [_folded(record) for record in await self._fetch(_VERSIONS)]

    async def discards(self) -> list[Discard]:
        """Restores, with what each took out of the history."""
        found = await self._fetch(
            "SELECT id, epoch, to_version, after_seq, last_seq FROM restores "
            "WHERE run_id = $1 ORDER BY number"
        )
        discards = []
        for record in found:
            versions = [_folded(r) for r in await self._fetch(_DISCARDED, record["id"])]
            discards.append(
                Discard(
                    record["epoch"],
                    record["to_version"],
                    record["after_seq"],
                    record["last_seq"],
                    tuple(versions),
                )
            )
        return discards

    async def tasks(
        self, dataset_id: str, sources: list[str] | None, *, lanes_by: LanesBy
    ) -> AsyncIterator[list[tuple[int, tuple[str, ...]]]]:
        """Pages by ordinal."""
        after, statement = -1, _TASKS.replace("{members}", MEMBERS[lanes_by])
        while found := await self._connection.fetch(
            statement, dataset_id, sources, after, _PAGE_TASKS, timeout=_LONG_S
        ):
            after = found[-1]["ordinal"]
            yield [(r["ordinal"], lane_members(lanes_by, r["members"])) for r in found]

    async def features(
        self, dataset_id: str, sources: list[str] | None
    ) -> AsyncIterator[Sequence[TaskFeatures]]:
        """Pages by ordinal."""
        after = -1
        while found := await read_features(
            self._connection,
            dataset_id,
            sources,
            after=after,
            limit=_PAGE_TASKS,
            timeout=_LONG_S,
        ):
            after = found[-1].ordinal
            yield found

    async def statistics(self, shape: Shape) -> AsyncIterator[StatisticsRows]:
        """Pages by task, kind and level."""
        statement = (
            f"SELECT {COLUMNS} FROM task_statistics WHERE run_id = $1 "
            "AND (ordinal, kind, level) > ($2::int, $3::text, $4::int) "
            "ORDER BY ordinal, kind, level LIMIT $5"
        )
        after: tuple[int, str, int] = (-1, "", 0)
        while found := await self._fetch(statement, *after, _PAGE_ROWS):
            last = found[-1]
            after = (last["ordinal"], last["kind"], last["level"])
            yield read_rows(found, shape)


def _rows_of(snapshot: Snapshot, shape: Shape) -> StatisticsRows:
    """A checkpoint's statistics as rows."""
    table = snapshot.statistics
    kinds = [snapshot.kinds[int(at)] for at in table["kind"].tolist()]
    keys = zip(table["ordinal"].tolist(), kinds, table["level"].tolist(), strict=True)

    def floats(name: str) -> np.ndarray:
        return table[name].astype(np.float64)

    def ints(name: str) -> np.ndarray:
        return table[name].astype(np.int64)

    def arrays(name: str, width: int = shape.num_subtasks) -> np.ndarray:
        if name not in table:
            return np.zeros((snapshot.num_statistics, width))
        return unpack_rows([bytes(value) for value in table[name]], width)

    return StatisticsRows(
        tuple(StatisticsKey(*key) for key in keys),
        ints("fence"),
        TaskStatistics(
            s_N=floats("s"),
            f_N=floats("f"),
            ema_N=floats("ema"),
            z_easy_N=ints("z_easy"),
            z_hard_N=ints("z_hard"),
            abs_a_N=floats("abs_a"),
            m_NK=arrays("m"),
            v_NK=arrays("v"),
            reward_mean_N=floats("reward_mean"),
            reward_var_N=floats("reward_var"),
            full_N=ints("full_visits"),
            n_N=ints("n"),
            last_N=ints("last_version"),
            x_NE=arrays("x", len(shape.fresh)),
        ),
    )


class PostgresHistories:
    """`ports.history.Histories`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def history(self, run_id: str) -> AsyncIterator[PostgresHistory]:
        """One repeatable-read transaction; it may take as long as the replay does."""
        async with (
            raw(self._engine) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                await connection.execute(f"SET LOCAL {name} = {int(1000 * _LONG_S)}")
            yield PostgresHistory(connection, run_id)
