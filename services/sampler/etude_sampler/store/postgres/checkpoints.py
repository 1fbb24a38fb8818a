"""Curriculum checkpoints in PostgreSQL: take, list, forget. Restore and fork: `restoring`.

`insert_checkpoint` is also part of a version's transaction (`ledger.commit_version`), so that an
ack and its checkpoint are stored together or not at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ...errors import CheckpointNotFound, IllegalTransition, RunNotFound, VersionConflict
from ...ports.checkpoints import CheckpointPlan, CheckpointRow, DrawRow, RestoreRow
from . import ledger_sql as sql
from .engine import raw
from .restoring import Restoring
from .snapshot import FORMAT, pack
from .snapshot_io import LONG_S, read_snapshot, unhurried

MAX_PINNED = 100
"""Most pinned checkpoints of a run; retention never drops them."""
_COLUMNS = (
    "id, number, label, pinned, policy_version, weights_uri, epoch, revision, apply_seq, "
    "folded_seq, allocator_state, totals::text AS totals, num_statistics, num_subtasks, "
    "num_bytes, sha256, created_at, discarded_at"
)
_INSERT = f"""
INSERT INTO checkpoints (run_id, number, id, label, pinned, policy_version, weights_uri, epoch,
    revision, apply_seq, folded_seq, allocator_state, totals, num_statistics, num_subtasks,
    num_bytes, format, sha256, data)
SELECT r.id, 1 + coalesce((SELECT max(number) FROM checkpoints WHERE run_id = $1), 0), $2, $3, $4,
    r.policy_version, r.weights_uri, r.epoch, r.revision,
    greatest(r.folded_seq, coalesce((SELECT max(apply_seq) FROM ledger WHERE run_id = $1), 0)),
    r.folded_seq, r.allocator_state, r.totals, $5, $6, $7, $8, $9, $10
FROM runs r WHERE r.id = $1
RETURNING {_COLUMNS}
"""
_RETAIN = """
DELETE FROM checkpoints WHERE run_id = $1 AND number IN (
    SELECT number FROM (
        SELECT number, policy_version, discarded_at,
               row_number() OVER (PARTITION BY discarded_at IS NULL ORDER BY number DESC) AS age
        FROM checkpoints WHERE run_id = $1 AND NOT pinned
    ) ranked
    WHERE age > $2
      AND ($3 = 0 OR policy_version % greatest($3, 1) <> 0 OR discarded_at IS NOT NULL)
)
"""
_READ = f"SELECT {_COLUMNS} FROM checkpoints WHERE run_id = $1"


def checkpoint_row(record: asyncpg.Record) -> CheckpointRow:
    """A row of `_COLUMNS`."""
    return CheckpointRow(**{**dict(record), "totals": json.loads(record["totals"])})


async def insert_checkpoint(
    connection: asyncpg.Connection, run_id: str, plan: CheckpointPlan
) -> CheckpointRow:
    """Take a checkpoint and apply retention; the caller holds the fold lock."""
    num_pinned: int = await connection.fetchval(
        "SELECT count(*) FROM checkpoints WHERE run_id = $1 AND pinned", run_id
    )
    snapshot = await read_snapshot(connection, run_id, plan.shape)
    packed = await asyncio.to_thread(pack, snapshot)
    insert = await connection.prepare(_INSERT)  # reads the ledger: see `engine.fetch_pruned`
    record = await insert.fetchrow(
        run_id,
        plan.id,
        plan.label,
        plan.pinned and num_pinned < MAX_PINNED,
        snapshot.num_statistics,
        snapshot.num_subtasks,
        len(packed.data),
        FORMAT,
        packed.sha256,
        packed.data,
        timeout=LONG_S,
    )
    assert record is not None, "the caller has locked the run"
    await connection.execute(_RETAIN, run_id, plan.keep_last, plan.keep_every)
    return checkpoint_row(record)


_CHOICE_WITHIN = 2000
"""Decisions after a draw in which its choice is looked for (our choice): it has ten seconds."""
_DRAWS = """
SELECT d.epoch, d.number, d.policy_version, d.num_waiting, d.tasks, c.tasks AS choice
FROM decisions d LEFT JOIN LATERAL (
    SELECT c.tasks FROM decisions c WHERE c.run_id = d.run_id AND c.epoch = d.epoch
    AND c.number > d.number AND c.number <= d.number + $5::bigint
    AND c.kind = 'choose' AND c.fence = d.fence ORDER BY c.number LIMIT 1) c ON true
WHERE d.run_id = $1 AND d.kind = 'draw' AND (d.epoch, d.number) > ($2, $3)
ORDER BY d.epoch, d.number LIMIT $4
"""


class PostgresCheckpoints(Restoring):
    """All of `ports.checkpoints.Checkpoints`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take(self, run_id: str, plan: CheckpointPlan) -> CheckpointRow:
        """Take a checkpoint now; the stored one if the id exists."""
        async with raw(self._engine) as connection, connection.transaction():
            await connection.execute(sql.FOLD_LOCK, run_id)
            await unhurried(connection)
            head = await connection.fetchrow(sql.FOLD_HEAD, run_id)
            if head is None:
                raise RunNotFound(f"no run {run_id!r}")
            stored = await connection.fetchrow(f"{_READ} AND id = $2", run_id, plan.id)
            if stored is not None:
                return checkpoint_row(stored)
            if plan.policy_version not in (None, head["policy_version"]):
                raise VersionConflict(
                    f"the run is at version {head['policy_version']}, not {plan.policy_version}"
                )
            row = await insert_checkpoint(connection, run_id, plan)
            if plan.pinned and not row.pinned:
                raise IllegalTransition(
                    f"the run has {MAX_PINNED} pinned checkpoints; delete one of them first"
                )
        return row

    async def get(self, run_id: str, checkpoint_id: str) -> CheckpointRow:
        """One checkpoint."""
        async with raw(self._engine) as connection:
            record = await connection.fetchrow(f"{_READ} AND id = $2", run_id, checkpoint_id)
        if record is None:
            raise CheckpointNotFound(f"run {run_id} has no checkpoint {checkpoint_id!r}")
        return checkpoint_row(record)

    async def page(self, run_id: str, *, after: int, limit: int) -> Sequence[CheckpointRow]:
        """Checkpoints in the order in which they were taken."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                f"{_READ} AND number > $2 ORDER BY number LIMIT $3", run_id, after, limit
            )
        return [checkpoint_row(record) for record in found]

    async def delete(self, run_id: str, checkpoint_id: str) -> CheckpointRow:
        """Forget a checkpoint, pinned or not."""
        async with raw(self._engine) as connection:
            record = await connection.fetchrow(
                f"DELETE FROM checkpoints WHERE run_id = $1 AND id = $2 RETURNING {_COLUMNS}",
                run_id,
                checkpoint_id,
            )
        if record is None:
            raise CheckpointNotFound(f"run {run_id} has no checkpoint {checkpoint_id!r}")
        return checkpoint_row(record)

    async def restores(self, run_id: str, *, after: int, limit: int) -> Sequence[RestoreRow]:
        """Restores, oldest first."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                "SELECT id, number, checkpoint_id, from_version, to_version, weights_uri, epoch, "
                "after_seq, last_seq, num_groups, created_at FROM restores "
                "WHERE run_id = $1 AND number > $2 ORDER BY number LIMIT $3",
                run_id,
                after,
                limit,
            )
        return [RestoreRow(**dict(record)) for record in found]

    async def draws(
        self, run_id: str, *, after: tuple[int, int], limit: int, pooled: bool = False
    ) -> Sequence[DrawRow]:
        """Draws in the order in which they happened; a pool's with their choices."""
        async with raw(self._engine) as connection:
            found = await connection.fetch(
                _DRAWS, run_id, after[0], after[1], limit, _CHOICE_WITHIN if pooled else 0
            )
        return [DrawRow(**dict(record)) for record in found]
