"""Time travel: curriculum checkpoints, restore, fork, and what was drawn since.

PostgreSQL first, in one transaction each; then Redis is loaded as after any raise of the epoch. A
crash in between leaves the new state without its hot copy, and the guard of any replica loads it.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from etude_proto.v1 import (
    Checkpoint,
    CheckpointCreate,
    CheckpointMark,
    CheckpointPage,
    Draw,
    DrawnTask,
    DrawPage,
    ForkRequest,
    Restore,
    RestorePage,
    Run,
    RunStatus,
)
from etude_sampler.curriculum import build

from ..errors import PayloadInvalid, RunNotFound
from ..ports.checkpoints import CheckpointRow, Checkpoints, DrawRow, RestoreRow
from .checkpointing import checkpoint_plan
from .context import RunContext, stored_parts
from .forking import carried_notes, carried_state
from .identifiers import restore_id_of, run_id_of
from .rebuild import Rebuilder
from .resolving import resolve_curriculum
from .runs import changed, iso, run_view
from .steps import Ground


class TimeTravel:
    """Checkpoints of runs and the ways back to them."""

    def __init__(self, ground: Ground, checkpoints: Checkpoints, rebuilder: Rebuilder) -> None:
        self._ground = ground
        self._checkpoints = checkpoints
        self._rebuilder = rebuilder

    async def take(self, run_id: str, body: CheckpointCreate, *, call: str) -> Checkpoint:
        """Take a checkpoint of a run as it is now.

        Raises:
            RunNotFound: no such run.
            VersionConflict: the run is not at the version asked for.
            IllegalTransition: too many checkpoints are pinned.
        """
        run = await self._ground.catalog.get_run(run_id)
        plan = checkpoint_plan(run, body, call=call, policy_version=body.policy_version)
        return checkpoint_view(run_id, await self._checkpoints.take(run_id, plan))

    async def get(self, run_id: str, checkpoint_id: str) -> Checkpoint:
        """Raises `RunNotFound`, `CheckpointNotFound`."""
        await self._ground.contexts.get(run_id)
        return checkpoint_view(run_id, await self._checkpoints.get(run_id, checkpoint_id))

    async def page(
        self, run_id: str, *, after: int, limit: int
    ) -> tuple[CheckpointPage, int | None]:
        """Checkpoints above a number, and the number to go on after."""
        await self._ground.contexts.get(run_id)
        rows = await self._checkpoints.page(run_id, after=after, limit=limit + 1)
        last = rows[limit - 1].number if len(rows) > limit else None
        items = [checkpoint_view(run_id, row) for row in rows[:limit]]
        return CheckpointPage(items=items, next_cursor=None), last

    async def delete(self, run_id: str, checkpoint_id: str) -> Checkpoint:
        """Forget a checkpoint, pinned or not. Raises `RunNotFound`, `CheckpointNotFound`."""
        await self._ground.contexts.get(run_id)
        return checkpoint_view(run_id, await self._checkpoints.delete(run_id, checkpoint_id))

    async def restore(self, run_id: str, checkpoint_id: str, *, call: str) -> Restore:
        """Take a run back to a checkpoint; a retry completes what is left to do.

        Raises:
            RunNotFound, CheckpointNotFound: no such run, or checkpoint.
            IllegalTransition: the checkpoint is discarded or damaged; nothing is changed.
        """
        await self._ground.contexts.get(run_id)
        row = await self._checkpoints.restore(
            run_id, checkpoint_id, restore_id=restore_id_of(f"{run_id} {call}")
        )
        self._ground.contexts.forget(run_id)
        await self._rebuilder.ensure(run_id, wait=True)
        return restore_view(run_id, row)

    async def restores(
        self, run_id: str, *, after: int, limit: int
    ) -> tuple[RestorePage, int | None]:
        """Restores above a number, and the number to go on after."""
        await self._ground.contexts.get(run_id)
        rows = await self._checkpoints.restores(run_id, after=after, limit=limit + 1)
        last = rows[limit - 1].number if len(rows) > limit else None
        items = [restore_view(run_id, row) for row in rows[:limit]]
        return RestorePage(items=items, next_cursor=None), last

    async def fork(self, run_id: str, body: ForkRequest, *, call: str) -> Run:
        """Begin another run from a checkpoint.

        Raises:
            RunNotFound, CheckpointNotFound: no such run, or checkpoint.
            PayloadInvalid: the curriculum asked for has other sub-tasks, or a wrong field.
            IllegalTransition: the checkpoint is damaged.
            PartNotInstalled: the source has a part that is not here.
        """
        source = await self._ground.catalog.get_run(run_id)
        fork_id = run_id_of(f"{run_id} {call}")
        with suppress(RunNotFound):
            await self._ground.catalog.get_run(fork_id)
            return await self._loaded(fork_id)
        parts = stored_parts(source)
        resolved = source.resolved
        if body.curriculum is not None:
            resolved, _ = await resolve_curriculum(
                self._ground.catalog, source.spec.model_copy(update={"curriculum": body.curriculum})
            )
            mine, theirs = resolved, source.resolved
            if (mine.subtasks, mine.lanes_by) != (theirs.subtasks, theirs.lanes_by):
                raise PayloadInvalid.at(
                    "/curriculum/subtasks",
                    f"a fork keeps the sub-tasks of its source: {source.resolved.subtasks}",
                )
        checkpoint_id = body.checkpoint_id
        if checkpoint_id is None:
            mark = CheckpointMark(label=f"fork {body.name}"[:128])
            plan = checkpoint_plan(source, mark, call=call)
            checkpoint_id = (await self._checkpoints.take(run_id, plan)).id
        given = {
            "name": body.name,
            "seed": body.seed,
            "curriculum": body.curriculum,
            "limits": changed(source.spec.limits, body.limits),
        }
        spec = source.spec.model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )
        found = await self._checkpoints.get(run_id, checkpoint_id)
        row = replace(
            source,
            id=fork_id,
            name=body.name,
            status=RunStatus.ACTIVE,
            spec=spec,
            resolved=resolved,
            secret=secrets.token_bytes(32),
            policy_version=found.policy_version,
            weights_uri=found.weights_uri,
            folded_seq=found.folded_seq,
            allocator_state=carried_state(found.allocator_state, source.resolved, resolved),
            totals=found.totals,
            created_at=datetime.now(UTC),
            forked_from={
                "run_id": run_id,
                "checkpoint_id": checkpoint_id,
                "policy_version": found.policy_version,
            },
        )
        notes = carried_notes(parts, build(resolved))
        await self._checkpoints.fork(run_id, checkpoint_id, row, notes=notes)
        return await self._loaded(fork_id)

    async def _loaded(self, run_id: str) -> Run:
        """The run, once its lanes are there."""
        await self._rebuilder.ensure(run_id, wait=True)
        return run_view(await self._ground.catalog.get_run(run_id))

    async def draws(
        self, run_id: str, *, after: tuple[int, int], limit: int
    ) -> tuple[DrawPage, tuple[int, int] | None]:
        """Draws above an (epoch, number), and the pair to go on after."""
        context = await self._ground.contexts.get(run_id)
        rows = await self._checkpoints.draws(
            run_id, after=after, limit=limit + 1, pooled=context.curriculum.pool is not None
        )
        more = rows[limit - 1] if len(rows) > limit else None
        items = [draw_view(context, row) for row in rows[:limit]]
        last = None if more is None else (more.epoch, more.number)
        return DrawPage(items=items, next_cursor=None), last


def checkpoint_view(run_id: str, row: CheckpointRow) -> Checkpoint:
    """A checkpoint as the wire shows it."""
    return Checkpoint(
        id=row.id,
        run_id=run_id,
        number=row.number,
        label=row.label,
        pinned=row.pinned,
        policy_version=row.policy_version,
        weights_uri=row.weights_uri,
        apply_seq=row.apply_seq,
        num_task_statistics=row.num_statistics,
        num_bytes=row.num_bytes,
        sha256=row.sha256,
        created_at=iso(row.created_at),
        discarded_at=None if row.discarded_at is None else iso(row.discarded_at),
    )


def restore_view(run_id: str, row: RestoreRow) -> Restore:
    """A restore as the wire shows it."""
    return Restore(
        id=row.id,
        run_id=run_id,
        checkpoint_id=row.checkpoint_id,
        from_version=row.from_version,
        policy_version=row.to_version,
        weights_uri=row.weights_uri,
        epoch=row.epoch,
        num_groups_discarded=row.num_groups,
        created_at=iso(row.created_at),
    )


def draw_view(context: RunContext, row: DrawRow) -> Draw:
    """A draw as the wire shows it; of a pool's candidates only those that were kept."""
    words = row.tasks.split(" ") if row.tasks else []
    names = context.curriculum.lane_names
    control, _, back = (row.choice or "").partition("|")
    arm, gone = frozenset(control.split()), frozenset(back.split())
    tasks = []
    for at in range(0, len(words), 5):
        ordinal, entry, lane, weight, probability = words[at : at + 5]
        if ordinal in gone:
            continue
        chosen = row.choice is not None and ordinal not in arm
        tasks.append(
            DrawnTask(
                ordinal=int(ordinal),
                lane=names[-1] if chosen else names[int(lane) - 1],
                entry=int(entry),
                weight=int(weight) / 1e6,
                slot_probability=float(probability),
            )
        )
    return Draw(
        epoch=row.epoch,
        number=row.number,
        policy_version=row.policy_version or 0,
        num_waiting=row.num_waiting or 0,
        tasks=tasks,
        num_candidates=None if row.choice is None else len(words) // 5,
    )
