"""Retention and removal: what goes by age, and whole runs. One implementation, `store/postgres`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from etude_proto.v1 import Retention

Kind = Literal["receipts", "leases", "decisions", "late", "discarded", "outcomes", "summaries"]
"""What is dropped by age."""
KINDS: tuple[Kind, ...] = (
    "receipts",
    "leases",
    "decisions",
    "late",
    "discarded",
    "outcomes",
    "summaries",
)


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many rows of one kind were dropped, or would be."""

    run_id: str
    """Empty for what belongs to no run."""
    kind: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class Removed:
    """A run or a dataset that callers no longer see, and whose rows are going."""

    id: str
    name: str


class Keeper(Protocol):
    """Drops what is no longer kept. Every step is bounded, repeatable, and raises
    `DependencyUnavailable`."""

    def only_one(self) -> AbstractAsyncContextManager[bool]:
        """True for one holder at a time, over all replicas."""

    async def drop(self, run_id: str, kind: Kind, keep: Retention, *, limit: int) -> int:
        """Drop at most `limit` rows of a kind, oldest first; how many there were."""

    async def count(self, run_id: str, kind: Kind, keep: Retention) -> int:
        """Rows that `drop` would drop by now."""

    async def drop_answers(self, *, limit: int) -> int:
        """Drop old answers of the control plane, and keys of calls that never ended."""

    async def count_answers(self) -> int:
        """Rows that `drop_answers` would drop by now."""

    async def remove_run(self, run_id: str) -> Removed:
        """Take a paused run from its callers; its rows stay until they are purged.

        Raises `RunNotFound`, `IllegalTransition`.
        """

    async def remove_dataset(self, dataset_id: str) -> Removed:
        """Take a dataset from its callers. Raises `DatasetNotFound`, `IllegalTransition`."""

    async def removed_runs(self) -> Sequence[Removed]:
        """Runs whose rows are not all gone."""

    async def purge_run(self, run_id: str, *, limit: int) -> int:
        """Drop rows of a removed run: its ledger whole, of each other table at most `limit`.

        0 when nothing was left; the run is then purged for good.
        """

    async def purge_datasets(self, *, limit: int) -> int:
        """Drop at most `limit` tasks of removed datasets, then the datasets; rows dropped."""
