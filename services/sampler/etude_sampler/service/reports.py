"""Reports: pin, stage, commit, settle. Each step can be repeated; a retry repeats 1, 2 and 4.

1. *Pin*: the lease is held, and will be for longer than the transaction may take.
2. *Stage*: trajectories go to Redis under lease and task.
3. *Commit*: ledger, statistics and receipt in one PostgreSQL transaction, or the stored receipt.
4. *Settle*: the tasks leave the lease and enter their lanes with new weights; admitted groups
   with trajectories become ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import orjson

from etude_proto.v1 import GateVerdict, ProblemItem, Report, RunMode
from etude_sampler.statistics import empty

from ..errors import DependencyUnavailable, LeaseSuperseded, PayloadInvalid, TaskNotLeased
from ..ports.catalog import TaskRow
from ..ports.ledger import BARE, Committed, Receipted, ReportKey, StatisticsKey
from ..ports.races import Drawn, Pinned
from .banking import bank_notes
from .context import RunContext
from .entering import enter, lane_weights
from .folding import join
from .hard_states import PaceMoved
from .identifiers import new_receipt_id
from .readying import with_group
from .reported import Reported, late_rows, most_late
from .reporting import plan_report
from .steps import Ground
from .traits import features_of, members, scored_lanes
from .weighing import aligned, announced_version

_FRESH_TRIES = 4
"""Of a report whose run's version moves while it is planned (our choice)."""
_UNKNOWN = Drawn(ordinal=-1, entry=0, lane=0, weight_micro=0, slot_probability=0.0)


@dataclass(frozen=True, slots=True)
class Incoming:
    """One report call."""

    lease_id: str
    report: Report
    key: ReportKey
    cargo: bytes | None = None


class Reports:
    """The report protocol."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def report(self, incoming: Incoming) -> Receipted:
        """Apply a report exactly once; the encoded `Receipt`.

        Raises:
            LeaseNotFound: the lease was never issued.
            LeaseSuperseded: it ended or was leased again; the outcomes are kept as late.
            TaskNotLeased: a task is not in the lease; nothing is changed.
            PayloadInvalid: the report contradicts the run.
            IdempotencyKeyReused: the key came with another body.
        """
        ground, lease_id, report = self._ground, incoming.lease_id, incoming.report
        context = await ground.leased_run("lease", lease_id)
        tasks = await self._tasks(context, report)
        ordinals = [task.ordinal for task in tasks]
        if incoming.cargo is not None:
            self._check_cargo(context, incoming.cargo)
        pinned = await ground.on_run(
            context.row.id,
            lambda c: ground.races.pin(
                c.key, lease_id, report.fence, ttl_ms=ground.pin_ms, ordinals=ordinals
            ),
        )
        context = await ground.contexts.get(context.row.id)
        if not isinstance(pinned, Pinned):
            return await self._late(context, incoming, tasks, why=pinned)
        reported = await self._match(context, incoming, tasks, pinned=pinned)
        if incoming.cargo is not None and reported.drawn[0] is not _UNKNOWN:
            group_id, body = f"{lease_id}:{ordinals[0]}", incoming.cargo
            kept = await ground.on_run(
                context.row.id, lambda c: ground.races.stage(c.key, group_id, body)
            )
            reported = replace(reported, cargo_kept=kept)
        try:
            context, committed = await self._commit(context, incoming, ordinals, reported=reported)
        except LeaseSuperseded:
            return await self._late(context, incoming, tasks, why="superseded")
        except TaskNotLeased as error:
            raise await self._outside(context, incoming, ordinals) from error
        await self._settle(context, incoming, tasks, reported=reported, committed=committed)
        return Receipted(committed.receipt, committed.replayed)

    async def _commit(
        self,
        context: RunContext,
        incoming: Incoming,
        ordinals: list[int],
        *,
        reported: Reported,
    ) -> tuple[RunContext, Committed]:
        """The report's transaction, and the context it was planned in."""
        ground, run_id, groups = self._ground, context.row.id, incoming.report.groups
        for _ in range(_FRESH_TRIES):
            try:
                committed = await ground.ledger.commit_report(
                    run_id,
                    incoming.key,
                    ordinals=ordinals,
                    num_attempts=sum(len(group.attempts) for group in groups),
                    shape=context.shape,
                    plan=partial(plan_report, context, reported),
                )
            except PaceMoved:
                context = await ground.contexts.refresh(run_id)
            else:
                return context, committed
        raise DependencyUnavailable("the run's version kept moving; nothing is written")

    async def _tasks(self, context: RunContext, report: Report) -> list[TaskRow]:
        ids = [group.task_id for group in report.groups]
        found = await self._ground.tasks.by_ids(context.row.spec.dataset_id, ids)
        faults = [
            ProblemItem(pointer=f"/groups/{i}/task_id", detail=f"no task {identifier!r} here")
            for i, identifier in enumerate(ids)
            if identifier not in found
        ]
        if faults:
            raise TaskNotLeased("the report names tasks that are not in this lease", errors=faults)
        if len(set(ids)) != len(ids):
            raise PayloadInvalid.at("/groups", "a task may appear once; use attempts")
        for g, group in enumerate(report.groups):
            names = [(a.scaffold_kind, a.scaffold_level, a.number) for a in group.attempts]
            if len(set(names)) != len(names):
                raise PayloadInvalid.at(f"/groups/{g}/attempts", "attempts must differ by number")
        return [found[identifier] for identifier in ids]

    def _check_cargo(self, context: RunContext, cargo: bytes) -> None:
        if context.row.spec.mode is not RunMode.TRAINING:
            raise PayloadInvalid.at("", "a curriculum-only run takes JSON reports, no trajectories")
        limit = context.row.spec.limits.max_group_bytes
        if len(cargo) > limit:
            raise PayloadInvalid.at("", f"{len(cargo)} bytes; limits.max_group_bytes is {limit}")

    async def _match(
        self, context: RunContext, incoming: Incoming, tasks: list[TaskRow], *, pinned: Pinned
    ) -> Reported:
        """Match the report with its lease; tasks outside it are refused unless this is a retry."""
        ordinals = [task.ordinal for task in tasks]
        outside = [i for i, drawn in enumerate(pinned.drawn) if drawn is None]
        if outside:
            stored = await self._ground.ledger.receipt(context.row.id, incoming.key)
            if stored is None:
                raise await self._outside(context, incoming, ordinals, outside=outside)
        inside = len(ordinals) - len(outside)
        return Reported(
            report=incoming.report,
            receipt_id=new_receipt_id(),
            lease_id=incoming.lease_id,
            ordinals=tuple(ordinals),
            drawn=tuple(drawn or _UNKNOWN for drawn in pinned.drawn),
            lease_version=pinned.version,
            num_waiting=pinned.num_waiting,
            num_remaining=pinned.num_remaining - inside,
            has_cargo=incoming.cargo is not None,
            cargo_kept=incoming.cargo is not None,
            members=scored_lanes(context.curriculum, tasks),
            allotted=pinned.allotted,
        )

    async def _outside(
        self,
        context: RunContext,
        incoming: Incoming,
        ordinals: list[int],
        *,
        outside: Sequence[int] = (),
    ) -> TaskNotLeased:
        """The refusal that names every group reported before, or (`outside`) never leased."""
        before = await self._ground.ledger.reported(context.row.id, incoming.lease_id)
        return TaskNotLeased(
            errors=[
                ProblemItem(
                    pointer=f"/groups/{i}/task_id",
                    detail="already reported under this lease"
                    if ordinal in before
                    else "not in this lease",
                )
                for i, ordinal in enumerate(ordinals)
                if i in outside or ordinal in before
            ]
        )

    async def _late(
        self, context: RunContext, incoming: Incoming, tasks: list[TaskRow], *, why: str
    ) -> Receipted:
        """The lease ended: a retry gets its receipt; anything else is kept as late and refused."""
        stored = await self._ground.ledger.receipt(context.row.id, incoming.key)
        if stored is not None:
            return Receipted(stored, replayed=True)
        reported = Reported(
            report=incoming.report,
            receipt_id="",
            lease_id=incoming.lease_id,
            ordinals=tuple(task.ordinal for task in tasks),
            drawn=(_UNKNOWN,) * len(tasks),
            lease_version=context.row.policy_version,
            num_waiting=0,
            num_remaining=0,
            has_cargo=False,
            cargo_kept=False,
            members=scored_lanes(context.curriculum, tasks),
        )
        rows = late_rows(reported, context.curriculum.subtasks)
        kept = await self._ground.ledger.commit_late(context.row.id, rows, most=most_late(context))
        # The first try may have been committing all the while; what it wrote is not late.
        stored = await self._ground.ledger.receipt(context.row.id, incoming.key)
        if stored is not None:
            return Receipted(stored, replayed=True)
        fate = "kept as late" if kept else "not kept: there are too many of this lease"
        raise LeaseSuperseded(f"lease {incoming.lease_id} is {why}; the outcomes are {fate}")

    async def _settle(
        self,
        context: RunContext,
        incoming: Incoming,
        tasks: list[TaskRow],
        *,
        reported: Reported,
        committed: Committed,
    ) -> None:
        ground, after = self._ground, committed.statistics
        receipt = orjson.loads(committed.receipt)
        held = [i for i, drawn in enumerate(reported.drawn) if drawn is not _UNKNOWN]
        if not held:
            return
        version = receipt["policy_version"]
        if committed.replayed:
            version = await ground.on_run(context.row.id, lambda c: announced_version(ground, c))
        context, version = await aligned(ground, context, version)
        rows = {key: i for i, key in enumerate(after.keys)}
        values = join(after.values, empty(1, context.num_subtasks, context.shape.fresh))
        never_seen = len(after.keys)
        keys = [StatisticsKey(tasks[i].ordinal, *BARE) for i in held]
        weights_NL = lane_weights(
            context,
            values.select(np.array([rows.get(key, never_seen) for key in keys], dtype=np.int64)),
            context.active([members(context.curriculum, tasks[i]) for i in held]),
            version=version,
            features_NF=features_of(context.curriculum, [tasks[i] for i in held]),
        )
        items = enter(
            context,
            [tasks[i].ordinal for i in held],
            [reported.drawn[i].entry + 1 for i in held],
            weights_NL,
        )
        told = receipt["groups"]
        notes = bank_notes(context, reported, [(i, told[i]) for i in held])
        items = [replace(item, note=note.packed) for item, note in zip(items, notes, strict=True)]
        if incoming.cargo is not None and told[0]["gate"] == GateVerdict.ADMITTED:
            apply_seq, value = told[0]["attempts"][-1]["apply_seq"] or 0, notes[0].value
            sent = (reported, incoming.cargo)
            items = [with_group(context, items[0], *sent, apply_seq=apply_seq, value=value)]
        await ground.on_run(
            context.row.id,
            lambda c: ground.races.settle(
                c.key, incoming.lease_id, incoming.report.fence, kind="report", items=items
            ),
        )
