"""Replay: a run's batches drawn again from decision log, ledger and seed, and compared.

Epoch by epoch, from what each rebuild loaded; nothing is written. `replay_ledger` folds the ledger
again, `replay_races` runs the races again, `replay_weights` ties the two. A decision that differs
ends its epoch: what follows from it says nothing new. The next epoch begins from PostgreSQL alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from etude_sampler.curriculum import AllocatorState
from etude_sampler.statistics import Bools, Floats, Ints

from ..ports.decisions import LoggedDecision
from ..ports.history import Discard, EpochLog, FoldedVersion, History
from .context import RunContext
from .replay_epoch import EpochReplay
from .replay_ledger import LedgerWalk
from .replay_log import SETTLED, Unreadable, settled_entries
from .replay_outcomes import LedgerIncomplete
from .replay_races import Differs, EpochRaces
from .replay_report import Difference, EpochReport, Gap, ReplayReport
from .replay_statistics import compare
from .replay_weights import WeightCheck, active_lanes
from .traits import feature_rows

Progress = Callable[[int, int], None]
"""Called with decisions done and decisions in all."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which decisions are compared."""

    epoch: int | None = None
    """Only this one."""
    first: int = 0
    """Decisions before it are made again, not compared."""
    last: int | None = None


def lineage(
    versions: Sequence[FoldedVersion], discards: Sequence[Discard], *, epoch: int
) -> tuple[list[FoldedVersion], list[tuple[int, int]]]:
    """The versions that counted during an epoch, and the ledger's ranges that did not."""
    found = list(versions)
    for one in reversed(discards):
        if one.epoch > epoch:
            kept = [version for version in found if version.version <= one.to_version]
            found = [*kept, *one.versions]
    return found, [(one.after_seq, one.last_seq) for one in discards if one.epoch <= epoch]


class Replay:
    """One replay of one run."""

    def __init__(
        self, history: History, context: RunContext, *, span: Span, progress: Progress
    ) -> None:
        self._history = history
        self._context = context
        self._span = span
        self._progress = progress
        self._report = ReplayReport(context.row.id)
        self._done = self._total = 0
        self._tasks_N: Ints = np.zeros(0, np.int64)
        self._num_ordinals = 0
        self._active_NK: Bools = np.zeros((0, context.num_subtasks), np.bool_)
        self._features_NF: Floats | None = None

    async def run(self) -> ReplayReport:
        """Replay every epoch that is asked for, then fold the rest of the ledger and compare."""
        history = self._history
        await self._read_tasks()
        logs = await history.epochs()
        head = await history.head()
        discards = await history.discards()
        wanted = [log for log in logs if self._span.epoch in (None, log.epoch)]
        self._total = sum(log.num_decisions for log in wanted)
        if not wanted:
            self._report.lacks(
                Gap(self._span.epoch or head.epoch, None, None, "no decision is kept")
            )
        walk: LedgerWalk | None = None
        skipped: list[tuple[int, int]] = []
        for log in wanted:
            versions, skip = lineage(await history.versions(), discards, epoch=log.epoch)
            if walk is None or skip != skipped:
                walk, skipped = await self._walk(versions, skip), skip
            try:
                await walk.advance_to_epoch(log.epoch)
                walk.watch(log.epoch, log.last_fence)
                await self._epoch(walk, log)
                if log.epoch != head.epoch:
                    await walk.advance_to_epoch(log.epoch + 1)
                    self._count_lost(walk, log)
            except LedgerIncomplete as error:
                self._report.lacks(Gap(log.epoch, log.first, log.last, str(error)))
        versions, skip = lineage(await history.versions(), discards, epoch=head.epoch)
        if walk is None or skip != skipped:
            walk = await self._walk(versions, skip)
        await self._ledger(walk)
        return self._report

    async def _read_tasks(self) -> None:
        spec = self._context.row.spec
        subtasks: dict[int, tuple[str, ...]] = {}
        resolved = self._context.row.resolved
        async for page in self._history.tasks(
            spec.dataset_id, spec.sources, lanes_by=resolved.lanes_by
        ):
            subtasks |= dict(page)
        self._tasks_N = np.array(list(subtasks), dtype=np.int64)
        self._num_ordinals = 1 + max(subtasks, default=-1)
        self._active_NK = await active_lanes(
            self._context, subtasks, num_ordinals=self._num_ordinals
        )
        if resolved.features:
            self._features_NF = np.zeros((self._num_ordinals, len(resolved.features)))
            async for found in self._history.features(spec.dataset_id, spec.sources):
                self._features_NF[[one.ordinal for one in found]] = feature_rows(
                    self._context.curriculum,
                    [one.source for one in found],
                    [one.features for one in found],
                )

    async def _walk(
        self, versions: Sequence[FoldedVersion], skip: Sequence[tuple[int, int]]
    ) -> LedgerWalk:
        """A walk from the beginning of the run."""
        stored = AllocatorState.from_json(json.loads((await self._history.head()).allocator_state))
        return LedgerWalk(
            self._context,
            versions,
            self._history.applied(skip=skip),
            self._num_ordinals,
            await self._history.origin(self._context.shape),
            None if self._context.curriculum.lanes_by == "subtasks" else self._active_NK,
            self._features_NF,
            has_trend=bool(stored.trend_K),
        )

    async def _ledger(self, walk: LedgerWalk) -> None:
        """Fold the rest; compare statistics and mastery with what is stored."""
        told = self._report.ledger
        head = await self._history.head()
        try:
            await walk.finish()
        except LedgerIncomplete as error:
            told.num_faults, told.first_fault = 0, str(error)
            self._report.lacks(Gap(head.epoch, None, None, str(error)))
            return
        compared = await compare(walk, self._history.statistics(self._context.shape))
        told.num_groups, told.num_versions = walk.num_groups, walk.version
        told.digest, told.stored_digest = compared.digest, compared.stored_digest
        told.explains_statistics = compared.digest == compared.stored_digest
        stored = AllocatorState.from_json(json.loads(head.allocator_state))
        told.explains_mastery = (
            json.dumps(stored.to_json()) == json.dumps(walk.state.to_json())
            and walk.version == head.policy_version
        )
        if compared.first is not None:
            walk.faults.add(compared.first)
        if not told.explains_mastery:
            walk.faults.add(f"mastery at version {walk.version} is not what is stored")
        told.num_faults, told.first_fault = walk.faults.num, walk.faults.first

    def _count_lost(self, walk: LedgerWalk, log: EpochLog) -> None:
        """Leases of an epoch that is over, which were reported, but not logged any more."""
        lost = len(walk.newest_fences.get(log.epoch, ()))
        if lost:
            why = (
                f"{lost} leases that were reported later; they were never drained: Redis was lost, "
                "or away when the run was archived"
            )
            self._report.lacks(Gap(log.epoch, log.last + 1, None, why))

    async def _epoch(self, walk: LedgerWalk, log: EpochLog) -> None:
        told = EpochReport(log.epoch, log.num_decisions)
        self._report.epochs.append(told)
        for begin, end in await self._history.gaps(log.epoch):
            self._report.lacks(Gap(log.epoch, begin, end, "not in the log"))
        if log.first != 0:
            self._report.lacks(
                Gap(log.epoch, 0, log.first - 1, "not in the log; nothing to begin from")
            )
            self._done += log.num_decisions
            return
        races = EpochRaces(self._context, epoch=log.epoch, num_ordinals=self._num_ordinals)
        weights = WeightCheck(self._context, self._active_NK, self._features_NF)
        replayed = EpochReplay(walk, races, weights, told)
        last = self._span.last
        async for page in self._history.decisions(log.epoch, last=last):
            if not await self._page(replayed, page):
                break
        self._done += log.num_decisions - told.num_replayed
        self._progress(self._done, self._total)

    async def _page(self, replayed: EpochReplay, page: Sequence[LoggedDecision]) -> bool:
        """One page; False where the epoch cannot be followed any further."""
        leases = [d.lease_id for d in page if d.kind in SETTLED]
        entries = settled_entries(page, num_lanes=len(self._context.lane_keys))
        replayed.prepare(entries, await self._history.last_applied(sorted(set(leases))))
        for decision in page:
            told = replayed.told
            if decision.number != told.num_replayed:
                return False
            try:
                await replayed.step(decision, self._tasks_N)
            except Unreadable as error:
                self._report.lacks(Gap(told.epoch, decision.number, None, str(error)))
                return False
            except Differs as error:
                self._differs(decision, told.epoch, str(error))
                return False
            for what in replayed.wrong_weights:
                self._differs(decision, told.epoch, what)
            replayed.wrong_weights.clear()
            told.num_replayed, told.last_number = told.num_replayed + 1, decision.number
            self._done += 1
        self._progress(self._done, self._total)
        return True

    def _differs(self, decision: LoggedDecision, epoch: int, what: str) -> None:
        if decision.number >= self._span.first:
            found = Difference(epoch, decision.number, decision.kind, what)
            self._report.differs(found)
