"""What happened to a run, read for replay: decisions, ledger, versions, restores, at one moment.

One implementation, `store/postgres/history.py`. Everything is read within one snapshot of the
database, so a run may go on meanwhile; long tables come in pages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from etude_proto.v1.curriculum import LanesBy
from etude_sampler.statistics import Shape

from .catalog import TaskFeatures
from .decisions import LoggedDecision
from .ledger import LedgerRow, StatisticsRows


@dataclass(frozen=True, slots=True)
class EpochLog:
    """The drained decisions of one epoch."""

    epoch: int
    first: int
    last: int
    num_decisions: int
    last_fence: int
    """The highest fence among the draws; 0 without a draw."""


@dataclass(frozen=True, slots=True)
class FoldedVersion:
    """A policy version: how many groups its fold took, and what the history says of it."""

    version: int
    num_groups: int
    summary: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Discard:
    """A restore: from `epoch` on, rows with `after_seq < apply_seq <= last_seq` do not count."""

    epoch: int
    to_version: int
    after_seq: int
    last_seq: int
    versions: tuple[FoldedVersion, ...]
    """The versions that it took out of the history."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a forked run began with."""

    apply_seq: int
    policy_version: int
    allocator_state: str
    statistics: StatisticsRows


@dataclass(frozen=True, slots=True)
class Head:
    """Where the run is."""

    epoch: int
    policy_version: int
    folded_seq: int
    allocator_state: str


class History(Protocol):
    """One run, at one moment."""

    async def head(self) -> Head:
        """Where the run is."""

    async def origin(self, shape: Shape) -> Origin | None:
        """What the run was forked with; None if it began from nothing."""

    async def epochs(self) -> Sequence[EpochLog]:
        """Epochs of which decisions were drained, ascending."""

    async def gaps(self, epoch: int) -> Sequence[tuple[int, int]]:
        """Ranges of missing numbers between the first and the last one, ascending."""

    def decisions(self, epoch: int, *, last: int | None) -> AsyncIterator[list[LoggedDecision]]:
        """Pages of an epoch's decisions by number, up to `last`."""

    def applied(self, *, skip: Sequence[tuple[int, int]]) -> AsyncIterator[list[LedgerRow]]:
        """Pages of applied groups in apply order, without the ranges `(after, last]` in `skip`."""

    async def last_applied(self, lease_ids: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """The last applied sequence number of each task reported under these leases."""

    async def versions(self) -> Sequence[FoldedVersion]:
        """The versions that the run counts, ascending."""

    async def discards(self) -> Sequence[Discard]:
        """Restores, in order."""

    def tasks(
        self, dataset_id: str, sources: list[str] | None, *, lanes_by: LanesBy
    ) -> AsyncIterator[list[tuple[int, tuple[str, ...]]]]:
        """Pages of (ordinal, component lanes) of the tasks that can be drawn, by ordinal."""

    def features(
        self, dataset_id: str, sources: list[str] | None
    ) -> AsyncIterator[Sequence[TaskFeatures]]:
        """Pages of the features of these tasks, by ordinal."""

    def statistics(self, shape: Shape) -> AsyncIterator[StatisticsRows]:
        """Pages of the stored statistics by task, scaffold kind and level."""


class Histories(Protocol):
    """Opens the history of a run."""

    def history(self, run_id: str) -> AbstractAsyncContextManager[History]:
        """The history of a run as of now."""
