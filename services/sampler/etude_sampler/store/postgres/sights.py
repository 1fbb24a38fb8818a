"""`ports.sights.Sights`: what the dashboard reads, each statement bounded and by an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from ...ports.sights import DecisionCounts, Fits, Practised, Seen, SeenOrder
from . import ledger_sql as sql
from .engine import fetch_pruned, raw
from .statistics_rows import unpack_rows

_BARE = "run_id = $1 AND kind = 'none' AND level = 0"
_SEEN: Mapping[SeenOrder, tuple[str, str, str]] = {
    "ema_up": ("ema", ">", "ASC"),
    "ema_down": ("ema", "<", "DESC"),
    "version_up": ("last_version", ">", "ASC"),
}
_FITS = """split = 'train' AND ($3::text[] IS NULL OR source = ANY($3))
AND ($4::text IS NULL OR subtasks @> ARRAY[$4])
AND ($5::text IS NULL OR position(lower($5) IN lower(convert_from(body, 'UTF8'))) > 0)"""
_FITTING = f"""
SELECT ordinal FROM tasks WHERE dataset_id = $1 AND ordinal = ANY($2::int[]) AND {_FITS}
"""
_BETWEEN = f"""
SELECT ordinal FROM tasks WHERE dataset_id = $1 AND ordinal BETWEEN $2 AND $6 AND {_FITS}
AND ($8::text IS NULL OR NOT EXISTS (SELECT FROM task_statistics s WHERE s.run_id = $8
    AND s.ordinal = tasks.ordinal AND s.kind = 'none' AND s.level = 0))
ORDER BY ordinal LIMIT $7
"""
_PRACTISED = f"""
SELECT ordinal, mean, prev, new FROM ledger
WHERE run_id = $1 AND verdict = 'applied' AND kind = 'none' AND level = 0 AND {sql.LIVE}
ORDER BY apply_seq DESC LIMIT $2
"""
_DECISIONS = """
SELECT kind, count(*) AS num, min(at_ms) AS since_ms, max(at_ms) AS until_ms FROM (
    SELECT kind, at_ms FROM decisions WHERE run_id = $1 ORDER BY epoch DESC, number DESC LIMIT $2
) AS newest GROUP BY kind
"""
_LAST_ID = "g"
"""After every digit of an id."""


class PostgresSights:
    """Part of `ledger`."""

    _engine: AsyncEngine

    async def summaries(self, run_id: str, *, after: int, limit: int) -> list[tuple[int, str]]:
        """Policy versions above `after` with their summaries as JSON, ascending."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT version, summary::text AS summary FROM policy_versions "
                "WHERE run_id = $1 AND version > $2 ORDER BY version LIMIT $3",
                run_id,
                after,
                limit,
            )
        return [(record["version"], record["summary"]) for record in found]

    async def version_times(self, run_id: str, *, newest: int) -> list[datetime]:
        """When the newest versions were announced, oldest first."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT created_at FROM policy_versions WHERE run_id = $1 "
                "ORDER BY version DESC LIMIT $2",
                run_id,
                newest,
            )
        return [record["created_at"] for record in reversed(found)]

    async def seen(
        self, run_id: str, order: SeenOrder, *, after: Seen | None, limit: int
    ) -> list[Seen]:
        """Seen tasks in an order; ties go by ordinal, in the same direction."""
        column, than, direction = _SEEN[order]
        place = "" if after is None else f"AND ({column}, ordinal) {than} ($3, $4)"
        statement = (
            f"SELECT {column} AS key, ordinal FROM task_statistics WHERE {_BARE} {place} "
            f"ORDER BY {column} {direction}, ordinal {direction} LIMIT $2"
        )
        begin: list[float | int] = [] if after is None else [after.key, after.ordinal]
        if begin and column == "last_version":
            begin[0] = int(begin[0])
        async with raw(self._engine) as connection:
            found = await connection.fetch(statement, run_id, limit, *begin)
        return [Seen(float(record["key"]), record["ordinal"]) for record in found]

    async def fitting(self, dataset_id: str, ordinals: Sequence[int], fits: Fits) -> set[int]:
        """Those of some tasks that a list shows."""
        arguments = (dataset_id, list(ordinals), fits.sources, fits.subtask, fits.text)
        async with raw(self._engine) as connection:
            found = await connection.fetch(_FITTING, *arguments)
        return {record["ordinal"] for record in found}

    async def between(
        self,
        dataset_id: str,
        fits: Fits,
        *,
        first: int,
        last: int,
        limit: int,
        unseen_by: str | None = None,
    ) -> list[int]:
        """Ordinals `first` to `last` that a list shows."""
        where = (fits.sources, fits.subtask, fits.text)
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                _BETWEEN, dataset_id, first, *where, last, limit, unseen_by
            )
        return [record["ordinal"] for record in found]

    async def by_prefix(
        self, dataset_id: str, prefix: str, *, after: str, limit: int
    ) -> list[tuple[str, int]]:
        """Drawable tasks by id, by the index that keeps ids unique."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT id, ordinal FROM tasks WHERE dataset_id = $1 AND id >= $2 AND id < $3 "
                "AND id > $4 AND split = 'train' ORDER BY id LIMIT $5",
                *(dataset_id, prefix, prefix + _LAST_ID, after, limit),
            )
        return [(record["id"], record["ordinal"]) for record in found]

    async def num_ordinals(self, dataset_id: str) -> int:
        """How many ordinals a dataset has given out."""
        async with raw(self._engine) as connection:
            found = await connection.fetchval(
                "SELECT num_tasks FROM datasets WHERE id = $1", dataset_id
            )
        return int(found or 0)

    async def practised(self, run_id: str, *, newest: int, num_subtasks: int) -> Practised:
        """The newest groups that were applied, without their outcomes."""
        async with raw(self._engine) as connection:
            found = await fetch_pruned(connection, _PRACTISED, run_id, newest)

        def packed(name: str) -> np.ndarray:
            return unpack_rows([record[name] for record in found], num_subtasks)

        return Practised(
            np.array([record["ordinal"] for record in found], dtype=np.int64),
            packed("mean"),
            packed("prev"),
            packed("new"),
        )

    async def averages(self, run_id: str, ordinals: Sequence[int]) -> list[tuple[int, float, int]]:
        """Ordinal, success rate and number of groups of those tasks that were seen."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                f"SELECT ordinal, ema, n FROM task_statistics WHERE {_BARE} "
                "AND ordinal = ANY($2::int[])",
                run_id,
                list(ordinals),
            )
        return [(record["ordinal"], record["ema"], record["n"]) for record in found]

    async def newest_decisions(self, run_id: str, *, newest: int) -> DecisionCounts:
        """The newest decisions by kind."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(_DECISIONS, run_id, newest)
        return DecisionCounts(
            {record["kind"]: record["num"] for record in found},
            min((record["since_ms"] for record in found), default=None),
            max((record["until_ms"] for record in found), default=None),
        )
