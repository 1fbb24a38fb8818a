"""The ledger, folded again in apply order: statistics, mastery, versions. Used by `replay`.

Reads outcomes and computes everything that was derived from them: means and EMAs of each group,
the task's statistics, each version's mastery and shares. What the ledger, the history and the
statistics table say is compared with it, to the bit.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import JsonValue

from etude_sampler.curriculum import AllocatorState, fold_state, lane_shares, start_state
from etude_sampler.curriculum.hard import Visit
from etude_sampler.statistics import (
    Bools,
    Floats,
    Ints,
    TaskStatistics,
    empty,
    fold,
    summarise,
)

from ..ports.fence import epoch_of
from ..ports.history import FoldedVersion, Origin
from ..ports.ledger import BARE, LedgerRow, StatisticsKey
from .context import RunContext, named_weights
from .folding import join, put, select_summary
from .hard_states import hard_at, visit_rows, with_run
from .outcomes import pack_rows
from .replay_outcomes import LedgerFaults, LedgerIncomplete, outcome_arrays, rounds
from .versions import fold_input, mastery_of


@dataclass(slots=True)
class LedgerWalk:
    """The state of a run's statistics and mastery as the walk along the ledger has it."""

    context: RunContext
    versions: Sequence[FoldedVersion]
    """All versions of this lineage, ascending, without a hole."""
    pages: AsyncIterator[list[LedgerRow]]
    num_ordinals: int
    origin: Origin | None = None
    active_NK: Bools | None = None
    """[num_ordinals, K] lanes that are scored by success; None: lanes are scored components."""
    features_NF: Floats | None = None
    """[num_ordinals, F]; None if the weigher reads none."""
    has_trend: bool = True
    """Whether the run tracks mastery as it is now; those of older releases do not."""
    stats: TaskStatistics = field(init=False)
    state: AllocatorState = field(init=False)
    version: int = 0
    num_groups: int = 0
    faults: LedgerFaults = field(default_factory=LedgerFaults)
    newest_fences: dict[int, set[int]] = field(default_factory=dict)
    """Fences beyond the last one logged, by epoch; see `watch`."""
    _at: dict[StatisticsKey, int] = field(default_factory=dict)
    _buffer: deque[LedgerRow] = field(default_factory=deque)
    _pending: list[LedgerRow] = field(default_factory=list)
    _watch: dict[int, int] = field(default_factory=dict)
    _shares: dict[int, Floats] = field(default_factory=dict)
    _paces: dict[int, Mapping[str, JsonValue]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with nothing, or with what a fork was given."""
        shape = self.context.shape
        self.stats = empty(self.num_ordinals, shape.num_subtasks, shape.fresh)
        self.state = start_state(self.context.curriculum)
        if not self.has_trend:
            self.state = replace(self.state, trend_K=())
        if self.origin is not None:
            self.version = self.origin.policy_version
            self.versions = [one for one in self.versions if one.version > self.version]
            self.state = AllocatorState.from_json(json.loads(self.origin.allocator_state))
            rows = self.origin.statistics
            at = np.array([self.row(key) for key in rows.keys], dtype=np.int64)
            if len(at):
                self.stats = put(self.stats, at, rows.values)
        self._shares[self.version] = lane_shares(self.context.curriculum, self.state)
        self._paces[self.version] = self.state.pace

    def watch(self, epoch: int, last_fence: int) -> None:
        """Collect the fences of this epoch's reports that the log does not know."""
        self._watch[epoch] = last_fence
        self.newest_fences[epoch] = set()

    def keys(self) -> dict[StatisticsKey, int]:
        """Rows of the scaffolded statistics, and of every task seen."""
        seen = np.flatnonzero(self.stats.n_N[: self.num_ordinals]).tolist()
        return {**{StatisticsKey(ordinal, *BARE): ordinal for ordinal in seen}, **self._at}

    def row(self, key: StatisticsKey) -> int:
        """Where a key's statistics are; made if it is new."""
        if (key.kind, key.level) == BARE and key.ordinal < self.num_ordinals:
            return key.ordinal
        if key not in self._at:
            used = self.num_ordinals + len(self._at)
            if used == len(self.stats.n_N):
                shape = self.context.shape
                more = empty(max(1000, used // 2), shape.num_subtasks, shape.fresh)
                self.stats = join(self.stats, more)
            self._at[key] = used
        return self._at[key]

    def shares_at(self, version: int) -> Floats | None:
        """Lane shares after a version's fold; None if the walk is not there yet."""
        return self._shares.get(version)

    def pace_at(self, version: int) -> Mapping[str, JsonValue] | None:
        """The parts' pace after a version's fold; None if there is no such version.

        Of a version that the walk has not reached, what the history says: a task was weighed at it
        before all of its groups are folded here. The walk compares the two when it gets there.
        """
        at = version - self._first_version() - 1
        if version not in self._paces and 0 <= at < len(self.versions):
            told = self.versions[at].summary.get("pace")
            return told if isinstance(told, dict) else None
        return self._paces.get(version)

    async def advance(self, apply_seq: int) -> None:
        """Fold everything up to and including a sequence number."""
        while (row := await self._peek()) is not None and row.apply_seq <= apply_seq:
            self._take(lambda one: one.apply_seq <= apply_seq)

    async def advance_to_epoch(self, epoch: int) -> None:
        """Fold everything that was reported before an epoch began."""
        while (row := await self._peek()) is not None and epoch_of(row.fence) < epoch:
            self._take(lambda one: epoch_of(one.fence) < epoch)

    async def advance_to_version(self, version: int) -> None:
        """Fold until a version is made.

        Raises:
            LedgerIncomplete: the ledger ends before.
        """
        self._close_versions()
        while self.version < version:
            if version > self.context_last or await self._peek() is None:
                raise LedgerIncomplete(f"version {version} was announced, but not folded")
            self._take(lambda _: True, until=version)

    @property
    def context_last(self) -> int:
        """The last version that the history knows."""
        return self.versions[-1].version if self.versions else self._first_version()

    def _first_version(self) -> int:
        return 0 if self.origin is None else self.origin.policy_version

    async def finish(self) -> None:
        """Fold the rest."""
        while await self._peek() is not None:
            self._take(lambda _: True)
        self._close_versions()

    async def _peek(self) -> LedgerRow | None:
        while not self._buffer:
            page = await anext(self.pages, None)
            if page is None:
                return None
            self._buffer.extend(page)
        return self._buffer[0]

    def _next_size(self) -> int | None:
        """Groups that the next version's fold takes; None if there is no next version."""
        at = self.version - self._first_version()
        return self.versions[at].num_groups if at < len(self.versions) else None

    def _take(self, wanted: Callable[[LedgerRow], bool], *, until: int | None = None) -> None:
        """Fold buffered rows while they are wanted, version by version."""
        while self._buffer and wanted(self._buffer[0]):
            self._close_versions()
            if until is not None and self.version >= until:
                return
            size = self._next_size()
            room = None if size is None else size - len(self._pending)
            if room is not None and room < 0:
                raise LedgerIncomplete(f"version {self.version + 1} folded more than is there")
            rows: list[LedgerRow] = []
            while self._buffer and wanted(self._buffer[0]) and (room is None or len(rows) < room):
                rows.append(self._buffer.popleft())
            self._fold(rows)
        self._close_versions()

    def _close_versions(self) -> None:
        """Make every version whose groups are all there."""
        while self._next_size() == len(self._pending):
            found = self.versions[self.version - self._first_version()]
            folded = with_run(
                self.context,
                fold_input(
                    self.context,
                    self._pending,
                    found.version,
                    noted=lambda ordinals: self.stats.x_NE[np.array(ordinals, dtype=np.int64)],
                    featured=self._featured,
                ),
                num_groups=len(self._pending),
                live=[row.tobytes() for row in self._live()],
            )
            self.state = fold_state(self.context.curriculum, self.state, folded)
            self._pending = []
            self.version = found.version
            self._shares[self.version] = lane_shares(self.context.curriculum, self.state)
            self._paces[self.version] = self.state.pace
            self._check_summary(found)

    def _featured(self, ordinals: Sequence[int]) -> Floats:
        if self.features_NF is None:
            return np.zeros((0, 0))
        return self.features_NF[np.array(ordinals, dtype=np.int64)]

    def _live(self) -> Floats:
        """Notes of the tasks that hard sampling has something to remember of."""
        hard, x_NE = self.context.curriculum.hard, self.stats.x_NE[: self.num_ordinals]
        return x_NE[:0] if hard is None else x_NE[x_NE[:, hard.live_column] != 0]

    def _check_summary(self, found: FoldedVersion) -> None:
        """The history's numbers of a version are those of its fold."""
        curriculum = self.context.curriculum
        want: dict[str, object] = {
            "pace": dict(self.state.pace) or None,
            "lane_shares": {
                n: float(s)
                for n, s in zip(curriculum.lanes, self._shares[self.version], strict=True)
            },
            "component_weights": named_weights(curriculum, self.state),
            **mastery_of(self.context, self.state),
        }
        for name, value in want.items():
            if found.summary.get(name) != value:
                self.faults.add(f"version {found.version}: {name} is not what its groups give")

    def _fold(self, rows: Sequence[LedgerRow]) -> None:
        """Fold rows of one version; compare each with its outcomes."""
        fresh = [r for r in rows if self.origin is None or r.apply_seq > self.origin.apply_seq]
        self._pending += [row._replace(outcomes="") for row in rows]
        self.num_groups += len(rows)
        for row in fresh:
            epoch = epoch_of(row.fence)
            if row.fence > self._watch.get(epoch, row.fence):
                self.newest_fences[epoch].add(row.fence)
        if fresh:
            self._fold_fresh(fresh)

    def _fold_fresh(self, rows: Sequence[LedgerRow]) -> None:
        subtasks = self.context.curriculum.subtasks
        summary = summarise(outcome_arrays(rows, subtasks, self.active_NK))
        prev_NK = np.full(summary.mean_NK.shape, np.nan)
        new_NK = prev_NK.copy()
        for members in rounds(rows):
            keys = [StatisticsKey(rows[i].ordinal, rows[i].kind, rows[i].level) for i in members]
            at = np.array([self.row(key) for key in keys], dtype=np.int64)
            before = self.stats.select(at)
            after = fold(
                before,
                select_summary(summary, members),
                version_N=np.full(len(at), self.version, dtype=np.int64),
                constants=self.context.curriculum.estimator,
                notes=self.context.curriculum.notes,
            )
            prev_NK[members], new_NK[members] = before.m_NK, after.m_NK
            _write(self.stats, at, after)
        hard = hard_at(self.context.curriculum, self.state)
        if hard is not None:
            won_N, valid_N = summary.num_success_N.tolist(), summary.num_valid_N.tolist()
            visits = [
                (row.ordinal, Visit(row.ordinal, row.kind, row.level, valid_N[i], won_N[i]))
                for i, row in enumerate(rows)
            ]
            visit_rows(self.stats.x_NE, visits, hard)
        columns = {
            "mean": pack_rows(summary.mean_NK),
            "prev": pack_rows(prev_NK),
            "new": pack_rows(new_NK),
            "num_valid": summary.num_valid_N.tolist(),
            "num_success": summary.num_success_N.tolist(),
            "reward_mean": summary.reward_mean_N.tolist(),
            "reward_var": summary.reward_var_N.tolist(),
        }
        for i, row in enumerate(rows):
            for name, values in columns.items():
                if getattr(row, name) != values[i]:
                    what = f"group {row.apply_seq} (task {row.ordinal}): {name} is not"
                    self.faults.add(f"{what} what its outcomes give")


def _write(stats: TaskStatistics, rows: Ints, new: TaskStatistics) -> None:
    """Replace rows in place; the walk owns its arrays."""
    for name in TaskStatistics.__slots__:
        getattr(stats, name)[rows] = getattr(new, name)
