"""Back to a checkpoint: restore a run in place, or begin another one from it.

Each is one transaction. A restore holds the run's fold lock: reports in flight commit before it or
are refused after it, because it raises the epoch. Nothing of the discarded future is deleted:
ledger rows stay (`ledger_sql.LIVE` leaves them out), versions move to `discarded_versions`,
checkpoints are marked.
"""

from __future__ import annotations

import asyncio
import json

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from ...errors import CheckpointNotFound, IllegalTransition, RunNotFound
from ...ports.catalog import RunRow
from ...ports.checkpoints import NoteColumns, RestoreRow
from ...ports.fence import first_fence
from . import demonstrations
from . import ledger_sql as sql
from .engine import raw
from .runs import spec_json
from .snapshot import pack
from .snapshot_io import LONG_S, stored_snapshot, unhurried, write_snapshot

_READ_RESTORE = """
SELECT id, number, checkpoint_id, from_version, to_version, weights_uri, epoch, after_seq,
       last_seq, num_groups, created_at
FROM restores WHERE run_id = $1 AND id = $2
"""
_INSERT_RESTORE = f"""
INSERT INTO restores (run_id, number, id, checkpoint_id, from_version, to_version, weights_uri,
    epoch, after_seq, last_seq, num_groups)
SELECT r.id, 1 + coalesce((SELECT max(number) FROM restores WHERE run_id = $1), 0), $3, c.id,
    r.policy_version, c.policy_version, c.weights_uri, r.epoch + 1, c.apply_seq,
    greatest(c.apply_seq, coalesce((SELECT max(apply_seq) FROM ledger WHERE run_id = $1), 0)),
    (SELECT count(*) FROM ledger
     WHERE run_id = $1 AND apply_seq > c.apply_seq AND verdict = 'applied' AND {sql.LIVE})
FROM runs r, checkpoints c WHERE r.id = $1 AND c.run_id = $1 AND c.id = $2
"""
_MOVE_VERSIONS = """
WITH moved AS (DELETE FROM policy_versions WHERE run_id = $1 AND version > $2 RETURNING *)
INSERT INTO discarded_versions (run_id, restore_id, version, content)
SELECT run_id, $3, version, to_jsonb(moved) FROM moved
"""
_MARK_CHECKPOINTS = """
UPDATE checkpoints SET discarded_at = now()
WHERE run_id = $1 AND number > $2 AND discarded_at IS NULL
"""
_BACK = """
UPDATE runs r SET epoch = r.epoch + 1, policy_version = c.policy_version,
    weights_uri = c.weights_uri, trainer_fence = $3, allocator_state = c.allocator_state,
    totals = c.totals, folded_seq = c.folded_seq
FROM checkpoints c WHERE r.id = $1 AND c.run_id = $1 AND c.id = $2
"""
_INSERT_RUN = """
INSERT INTO runs (id, name, dataset_id, status, spec, resolved, secret, num_tasks, epoch,
    policy_version, weights_uri, folded_seq, allocator_state, totals, forked_from)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $8, $9, $10, $11, $12, $13,
    $14::text::jsonb, $15::text::jsonb)
ON CONFLICT (id) DO NOTHING RETURNING id
"""
_COPY_PENDING = f"""
INSERT INTO ledger (run_id, {", ".join(sql.LEDGER_COLUMNS)}, created_at)
SELECT $1, {", ".join(sql.LEDGER_COLUMNS)}, created_at FROM ledger
WHERE run_id = $2 AND apply_seq > $3 AND apply_seq <= $4 AND verdict = 'applied'
  AND NOT EXISTS (SELECT 1 FROM restores d WHERE d.run_id = $2 AND d.epoch <= $5
                  AND ledger.apply_seq > d.after_seq AND ledger.apply_seq <= d.last_seq)
"""
_COPY_CHECKPOINT = """
INSERT INTO checkpoints (run_id, number, id, label, pinned, policy_version, weights_uri, epoch,
    revision, apply_seq, folded_seq, allocator_state, totals, num_statistics, num_subtasks,
    num_bytes, format, sha256, data)
SELECT $1, 1, id, 'fork', true, policy_version, weights_uri, epoch, 1, apply_seq, folded_seq,
    $4, totals, num_statistics, num_subtasks, coalesce(octet_length($6::bytea), num_bytes), format,
    coalesce($5, sha256), coalesce($6, data)
FROM checkpoints WHERE run_id = $2 AND id = $3
"""


async def _locked(
    connection: asyncpg.Connection, run_id: str, checkpoint_id: str
) -> asyncpg.Record:
    """A checkpoint that retention cannot drop while this transaction runs."""
    record = await connection.fetchrow(
        "SELECT number, policy_version, epoch, apply_seq, folded_seq, discarded_at "
        "FROM checkpoints WHERE run_id = $1 AND id = $2 FOR SHARE",
        run_id,
        checkpoint_id,
    )
    if record is None:
        raise CheckpointNotFound(f"run {run_id} has no checkpoint {checkpoint_id!r}")
    return record


class Restoring:
    """The writing ways of `ports.checkpoints.Checkpoints`."""

    _engine: AsyncEngine

    async def restore(self, run_id: str, checkpoint_id: str, *, restore_id: str) -> RestoreRow:
        """Bring PostgreSQL back to a checkpoint and raise the epoch."""
        async with raw(self._engine) as connection, connection.transaction():
            await unhurried(connection)
            await connection.execute(sql.FOLD_LOCK, run_id, timeout=LONG_S)
            head = await connection.fetchrow(sql.FOLD_HEAD, run_id, timeout=LONG_S)
            if head is None:
                raise RunNotFound(f"no run {run_id!r}")
            done = await connection.fetchrow(_READ_RESTORE, run_id, restore_id)
            if done is not None:
                return RestoreRow(**dict(done))
            found = await _locked(connection, run_id, checkpoint_id)
            if found["discarded_at"] is not None:
                raise IllegalTransition(
                    f"checkpoint {checkpoint_id} belongs to a future that a restore discarded; "
                    "it can be forked, not restored"
                )
            snapshot = await stored_snapshot(connection, run_id, checkpoint_id)
            await connection.execute(
                _INSERT_RESTORE, run_id, checkpoint_id, restore_id, timeout=LONG_S
            )
            for table in ("task_statistics", "predictions"):
                await connection.execute(
                    f"DELETE FROM {table} WHERE run_id = $1", run_id, timeout=LONG_S
                )
            await write_snapshot(connection, run_id, snapshot)
            await connection.execute(demonstrations.TAKE_BACK, run_id, checkpoint_id)
            await connection.execute(_MOVE_VERSIONS, run_id, found["policy_version"], restore_id)
            await connection.execute(_MARK_CHECKPOINTS, run_id, found["number"])
            await connection.execute(_BACK, run_id, checkpoint_id, first_fence(head["epoch"] + 1))
            stored = await connection.fetchrow(_READ_RESTORE, run_id, restore_id)
            assert stored is not None
        return RestoreRow(**dict(stored))

    async def fork(
        self, source_id: str, checkpoint_id: str, run: RunRow, *, notes: NoteColumns | None = None
    ) -> None:
        """Store a new run that begins as the checkpoint; nothing if the run's id exists.

        Groups that no version has folded yet come along in the ledger, under their own numbers:
        the fork's next fold must see them. The checkpoint is copied as the fork's first, pinned.
        """
        async with raw(self._engine) as connection, connection.transaction():
            await unhurried(connection)
            found = await _locked(connection, source_id, checkpoint_id)
            created = await connection.fetchval(
                _INSERT_RUN,
                run.id,
                run.name,
                run.spec.dataset_id,
                run.status.value,
                json.dumps(spec_json(run.spec)),
                run.resolved.model_dump_json(),
                run.secret,
                run.num_tasks,
                found["epoch"],
                run.policy_version,
                run.weights_uri,
                found["folded_seq"],
                run.allocator_state,
                json.dumps(run.totals),
                json.dumps(run.forked_from),
            )
            if created is None:
                return
            snapshot, packed = await stored_snapshot(connection, source_id, checkpoint_id), None
            if notes is not None:
                snapshot = snapshot.with_notes(notes.took, notes.fresh)
                packed = await asyncio.to_thread(pack, snapshot)
            await write_snapshot(connection, run.id, snapshot)
            await connection.execute(
                demonstrations.COPY, run.id, source_id, found["apply_seq"], timeout=LONG_S
            )
            await connection.execute(
                _COPY_PENDING,
                run.id,
                source_id,
                found["folded_seq"],
                found["apply_seq"],
                found["epoch"],
                timeout=LONG_S,
            )
            await connection.execute(
                _COPY_CHECKPOINT,
                run.id,
                source_id,
                checkpoint_id,
                run.allocator_state,
                None if packed is None else packed.sha256,
                None if packed is None else packed.data,
                timeout=LONG_S,
            )
