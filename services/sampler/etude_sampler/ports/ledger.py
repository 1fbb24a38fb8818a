"""The ledger: outcomes and statistics, folds and versions. One implementation, `store/postgres`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from etude_sampler.statistics import Floats, Ints, Shape, TaskStatistics

from .bank import ReplayLine
from .catalog import TaskFeatures
from .checkpoints import CheckpointPlan
from .decisions import LoggedDecision
from .demonstrations import DemonstrationRow, Demonstrations
from .sights import Sights

BARE = ("none", 0)
"""Scaffold kind and level of an un-scaffolded attempt: the only one that moves the curriculum."""


class StatisticsKey(NamedTuple):
    """Whose statistics: a task at one scaffold kind and level."""

    ordinal: int
    kind: str
    level: int


@dataclass(frozen=True, slots=True)
class StatisticsRows:
    """Statistics of several (task, kind, level), one row each."""

    keys: tuple[StatisticsKey, ...]
    fences: Ints
    values: TaskStatistics


@dataclass(frozen=True, slots=True, eq=False)
class BareStatistics:
    """Un-scaffolded statistics of a chunk of tasks, by ordinal."""

    ordinals_N: Ints
    values: TaskStatistics
    content: bytes
    """The same in a canonical form, for a digest."""


class LedgerRow(NamedTuple):
    """One attempt's group, as the ledger keeps it; arrays are packed float64."""

    apply_seq: int
    lease_id: str
    ordinal: int
    kind: str
    level: int
    number: int
    fence: int
    verdict: str
    gate: str
    policy_version: int
    min_version: int
    lane: int
    slot_probability: float
    num_waiting: int
    num_valid: int
    num_success: int
    reward_mean: float
    reward_var: float
    num_tokens: int
    mean: bytes
    prev: bytes
    new: bytes
    outcomes: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CommitView:
    """What a report's transaction sees before it writes."""

    epoch: int
    policy_version: int
    apply_seqs: tuple[int, ...]
    statistics: StatisticsRows


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """What a report's transaction writes."""

    ledger: Sequence[LedgerRow]
    statistics: StatisticsRows
    """Rows to write."""
    after: StatisticsRows
    """These and the other rows of the report's tasks, as they are then."""
    receipt: bytes
    demonstrations: Sequence[DemonstrationRow] = ()
    """Right completions to keep."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The stored receipt, and the statistics of the report's tasks as they are now."""

    receipt: bytes
    statistics: StatisticsRows
    replayed: bool


@dataclass(frozen=True, slots=True)
class Receipted:
    """An encoded receipt, and whether it was stored by an earlier call."""

    receipt: bytes
    replayed: bool


@dataclass(frozen=True, slots=True)
class ReportKey:
    """What makes a report the same report."""

    idempotency_key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class FoldView:
    """What a version's transaction sees: the run's state and the groups since the last fold."""

    policy_version: int
    trainer_fence: int
    epoch: int
    allocator_state: str
    totals: dict[str, dict[str, float]]
    groups: Sequence[LedgerRow]
    last_seq: int
    notes: Mapping[int, bytes] = field(default_factory=dict)
    """Packed notes by ordinal of the groups' tasks, un-scaffolded; empty if not asked for."""
    features: Mapping[int, TaskFeatures] = field(default_factory=dict)
    """Features by ordinal of the groups' tasks; empty if not asked for."""
    live: Sequence[bytes] = ()
    """Packed notes of all tasks of which the asked column is not 0."""


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """What a version's transaction writes."""

    policy_version: int
    trainer_fence: int
    weights_uri: str | None
    allocator_state: str
    totals: dict[str, dict[str, float]]
    summary: Mapping[str, object]
    receipt: bytes
    checkpoint: CheckpointPlan | None = None
    """A checkpoint to take in the same transaction."""
    pool_size: int | None = None
    """Demonstrations that are chosen from, if the run has any: a few times as many are kept."""
    replays: Sequence[ReplayLine] = ()
    """Groups of this version's batch that came from the bank."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One policy version."""

    version: int
    weights_uri: str | None
    summary: dict[str, object]
    created_at: datetime


class Ledger(Demonstrations, Sights, Protocol):
    """The append-only truth about outcomes, and what is folded from it."""

    async def commit_report(
        self,
        run_id: str,
        key: ReportKey,
        *,
        ordinals: Sequence[int],
        num_attempts: int,
        shape: Shape,
        plan: Callable[[CommitView], CommitPlan],
    ) -> Committed:
        """One transaction: replay the receipt, or plan and write.

        Raises `IdempotencyKeyReused`, `TaskNotLeased`, `LeaseSuperseded`,
        `DependencyUnavailable`.
        """

    async def receipt(self, run_id: str, key: ReportKey) -> bytes | None:
        """The receipt stored under a key. Raises `IdempotencyKeyReused`."""

    async def end_lease(self, run_id: str, lease_id: str) -> bool:
        """Fence off a lease's reports for good; False: try again.

        Once this returns True, no report of the lease commits any more, however long ago it was
        pinned; reports that were committing have committed.
        """

    async def commit_late(self, run_id: str, rows: Sequence[LedgerRow], *, most: int) -> bool:
        """Keep outcomes of a superseded lease, out of the statistics; repeatable.

        Keeps nothing, and returns False, where the lease would have more than `most` such rows.
        """

    async def reported(self, run_id: str, lease_id: str) -> set[int]:
        """Ordinals already reported under a lease."""

    async def commit_version(
        self,
        run_id: str,
        key: ReportKey,
        plan: Callable[[FoldView], FoldPlan],
        *,
        with_notes: bool = False,
        with_features: bool = False,
        live_column: int | None = None,
    ) -> Receipted:
        """One transaction under the run's row lock: replay, or fold and announce.

        `live_column` asks for the notes of all tasks in which it, a count, is not 0.
        """

    async def statistics(
        self, run_id: str, ordinals: Sequence[int], shape: Shape
    ) -> StatisticsRows:
        """Statistics of tasks at every scaffold level."""

    async def bare_between(
        self, run_id: str, first: int, last: int, shape: Shape
    ) -> BareStatistics:
        """Un-scaffolded statistics of the tasks `first` to `last`, by ordinal."""

    async def last_seen_at(self, run_id: str, versions: Sequence[int]) -> list[int]:
        """Tasks whose last applied group was drawn at one of these versions."""

    async def never_seen(
        self, run_id: str, dataset_id: str, *, first: int, limit: int
    ) -> list[int]:
        """Ordinals from `first` on of tasks without un-scaffolded statistics, ascending."""

    async def loading_epoch(self, run_id: str) -> int:
        """The epoch to load: a new one, or that of a load that nobody has opened.

        Waits for reports in flight; those that come later are of an older epoch.
        """

    async def loaded(self, run_id: str, epoch: int, found: Mapping[str, object]) -> bool:
        """Note that an epoch is about to be opened, and what was found; False: it is over."""

    def rebuild_lock(self, run_id: str, *, wait: bool = False) -> AbstractAsyncContextManager[bool]:
        """Exactly one holder per run; False, unless told to wait, if another replica holds it."""

    async def store_decisions(self, run_id: str, decisions: Sequence[LoggedDecision]) -> None:
        """Keep drained decisions; repeatable."""

    async def store_predictions(
        self, run_id: str, *, ordinals: Sequence[int], values: Floats, version: int
    ) -> None:
        """Keep the latest prediction of each task."""

    async def prediction(self, run_id: str, ordinal: int) -> float | None:
        """The latest prediction of a task."""

    async def predictions(self, run_id: str, ordinals: Sequence[int]) -> Mapping[int, float]:
        """The latest predictions of tasks; those without one are left out."""

    async def versions(self, run_id: str, *, after: int, limit: int) -> list[VersionRow]:
        """Policy versions above `after`, ascending."""

    async def since_fold(self, run_id: str, folded_seq: int) -> Sequence[LedgerRow]:
        """Applied groups that no version has folded yet."""

    async def recent(self, run_id: str, ordinal: int, limit: int) -> Sequence[LedgerRow]:
        """Last groups of a task, newest first."""

    async def num_late(self, run_id: str) -> int:
        """Ledger rows that came too late to count."""

    async def num_replayed(self, run_id: str) -> int:
        """Groups trained on again, so far; what a restore discarded is left out."""
