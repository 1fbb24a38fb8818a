"""What goes by age, in bounded statements. Whole runs and datasets: `removal`.

What is kept never needs what goes: statistics and the curriculum's state are stored, not read back
from the ledger; a fold reads rows above `folded_seq`; a fork copies the rows between a checkpoint's
`folded_seq` and `apply_seq`. Those are never touched, nor is the version of a checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from etude_proto.v1 import Retention

from ...ports.retention import Kind
from .engine import fetch_pruned, raw
from .removal import Removal

_ANSWERS_S = 86_400
"""How long the control plane keeps its answers."""
_BLANK = (
    '{"reward": [], "shaping": [], "success": [], "components": {}, "finish_reason": [], '
    '"num_turns": [], "num_tokens": [], "min_policy_version": [], "max_policy_version": []}'
)
_OLD = "created_at < now() - make_interval(secs => $2)"
_PENDING = """EXISTS (SELECT FROM checkpoints c WHERE c.run_id = $1
    AND l.apply_seq > c.folded_seq AND l.apply_seq <= c.apply_seq)"""
_FOLDED = """(SELECT least(r.folded_seq, (SELECT min(c.folded_seq) FROM checkpoints c
    WHERE c.run_id = $1)) FROM runs r WHERE r.id = $1)"""

_DUE: dict[Kind, str] = {
    "receipts": f"SELECT key FROM receipts WHERE run_id = $1 AND {_OLD} ORDER BY created_at",
    "leases": f"SELECT lease_id FROM ended_leases WHERE run_id = $1 AND {_OLD} ORDER BY created_at",
    "decisions": """
        SELECT epoch, number FROM (SELECT epoch, number, at_ms FROM decisions WHERE run_id = $1
        ORDER BY epoch, number LIMIT $3) oldest
        WHERE at_ms < 1000 * (extract(epoch FROM now()) - $2::float8)""",
    "late": f"SELECT apply_seq FROM ledger WHERE run_id = $1 AND verdict = 'late' AND {_OLD}",
    "discarded": f"""
        SELECT l.apply_seq FROM restores d JOIN ledger l ON l.run_id = $1
            AND l.apply_seq > d.after_seq AND l.apply_seq <= d.last_seq
        WHERE d.run_id = $1 AND d.{_OLD} AND NOT {_PENDING}""",
    "outcomes": f"""
        SELECT apply_seq FROM ledger WHERE run_id = $1 AND {_OLD} AND apply_seq <= {_FOLDED}
        AND verdict <> 'late'
        AND apply_seq > coalesce((SELECT outcomes_seq FROM retention_marks WHERE run_id = $1), 0)
        ORDER BY apply_seq""",
    "summaries": f"""
        SELECT version FROM policy_versions v WHERE run_id = $1 AND {_OLD}
        AND version < (SELECT policy_version FROM runs WHERE id = $1)
        AND NOT EXISTS (SELECT FROM checkpoints c WHERE c.run_id = $1
                        AND c.policy_version = v.version)
        ORDER BY version""",
}
"""Rows to drop: $1 the run, $2 the age in seconds, $3 the limit. The oldest decisions are read in
their order, which is that of time, so that no scan goes over those that stay."""

_GO: dict[Kind, str] = {
    "receipts": "DELETE FROM receipts t USING due WHERE t.run_id = $1 AND t.key = due.key",
    "leases": "DELETE FROM ended_leases t USING due WHERE t.run_id = $1 "
    "AND t.lease_id = due.lease_id",
    "decisions": "DELETE FROM decisions t USING due WHERE t.run_id = $1 "
    "AND t.epoch = due.epoch AND t.number = due.number",
    "late": "DELETE FROM ledger t USING due WHERE t.run_id = $1 AND t.apply_seq = due.apply_seq",
    "discarded": "DELETE FROM ledger t USING due WHERE t.run_id = $1 "
    "AND t.apply_seq = due.apply_seq",
    "outcomes": f"UPDATE ledger t SET outcomes = '{_BLANK}' FROM due WHERE t.run_id = $1 "
    "AND t.apply_seq = due.apply_seq",
    "summaries": "DELETE FROM policy_versions t USING due WHERE t.run_id = $1 "
    "AND t.version = due.version",
}
_MARK = """
INSERT INTO retention_marks (run_id, outcomes_seq) VALUES ($1, $2)
ON CONFLICT (run_id) DO UPDATE
SET outcomes_seq = greatest(retention_marks.outcomes_seq, excluded.outcomes_seq)
"""
_DISCARDED_VERSIONS = """
DELETE FROM discarded_versions v USING restores d WHERE v.run_id = $1 AND d.run_id = $1
AND d.id = v.restore_id AND d.created_at < now() - make_interval(secs => $2)
"""
_OLD_ANSWERS = f"created_at < now() - interval '{_ANSWERS_S} seconds'"


def _age(kind: Kind, keep: Retention) -> int | None:
    """Seconds after which rows of a kind go."""
    ages: dict[Kind, int | None] = {
        "receipts": keep.receipts_s,
        "leases": keep.receipts_s,
        "decisions": keep.decisions_s,
        "late": keep.late_s,
        "discarded": keep.discarded_s,
        "outcomes": keep.outcomes_s,
        "summaries": keep.summaries_s,
    }
    return ages[kind]


class PostgresKeeper(Removal):
    """All of `ports.retention.Keeper`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def only_one(self) -> AsyncIterator[bool]:
        """An advisory lock for the life of one connection."""
        async with raw(self._engine) as connection:
            name = "retention"
            held: bool = await connection.fetchval(
                "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name
            )
            try:
                yield held
            finally:
                if held:
                    await connection.execute(
                        "SELECT pg_advisory_unlock(hashtextextended($1, 0))", name
                    )

    async def drop(self, run_id: str, kind: Kind, keep: Retention, *, limit: int) -> int:
        """Drop at most `limit` rows of a kind."""
        age = _age(kind, keep)
        if age is None:
            return 0
        due = _DUE[kind] if "$3" in _DUE[kind] else f"{_DUE[kind]} LIMIT $3"
        returned = "t.apply_seq" if "ledger" in _GO[kind] else "0"
        async with raw(self._engine) as connection, connection.transaction():
            gone = await fetch_pruned(
                connection,
                f"WITH due AS MATERIALIZED ({due}) {_GO[kind]} RETURNING {returned} AS seq",
                run_id,
                age,
                limit,
            )
            if kind == "outcomes" and gone:
                await connection.execute(_MARK, run_id, max(row["seq"] for row in gone))
            if kind == "discarded" and len(gone) < limit:
                await connection.execute(_DISCARDED_VERSIONS, run_id, age)
        return len(gone)

    async def count(self, run_id: str, kind: Kind, keep: Retention) -> int:
        """Rows that would go by now."""
        age = _age(kind, keep)
        if age is None:
            return 0
        counted = _DUE[kind].replace("LIMIT $3", "")
        async with raw(self._engine) as connection:
            (row,) = await fetch_pruned(
                connection, f"SELECT count(*) FROM ({counted}) due", run_id, age
            )
        num: int = row["count"]
        return num

    async def drop_answers(self, *, limit: int) -> int:
        """Drop at most `limit` old answers."""
        async with raw(self._engine) as connection:
            status: str = await connection.execute(
                "DELETE FROM idempotency WHERE (scope, key) IN "
                f"(SELECT scope, key FROM idempotency WHERE {_OLD_ANSWERS} LIMIT $1)",
                limit,
            )
        return int(status.split()[-1])

    async def count_answers(self) -> int:
        """Old answers by now."""
        async with raw(self._engine) as connection:
            num: int = await connection.fetchval(
                f"SELECT count(*) FROM idempotency WHERE {_OLD_ANSWERS}"
            )
        return num
