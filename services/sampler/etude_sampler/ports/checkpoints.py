"""Curriculum checkpoints: take, list, restore, fork. One implementation, in `store/postgres`.

A checkpoint is a run at one apply-sequence number: statistics at every scaffold level, predictions,
allocator state, totals, policy version. It is taken under the lock that folds take, so no report
is half in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from etude_sampler.statistics import Shape

from .catalog import RunRow


@dataclass(frozen=True, slots=True)
class CheckpointPlan:
    """A checkpoint to be taken, and what the run's limits let live beside it."""

    id: str
    label: str | None
    pinned: bool
    shape: Shape
    """Of the run's statistics."""
    keep_last: int
    keep_every: int
    policy_version: int | None = None
    """The version that the run must be at; None: whichever."""


@dataclass(frozen=True, slots=True)
class NoteColumns:
    """Notes of a fork whose parts remember other things of a task than its source's."""

    took: tuple[int, ...]
    """For each value its column in the source; -1: there is none."""
    fresh: tuple[float, ...]
    """Values of a task never seen."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint without its data."""

    id: str
    number: int
    label: str | None
    pinned: bool
    policy_version: int
    weights_uri: str | None
    epoch: int
    revision: int
    apply_seq: int
    folded_seq: int
    allocator_state: str
    totals: dict[str, dict[str, float]]
    num_statistics: int
    num_subtasks: int
    num_bytes: int
    sha256: str
    created_at: datetime
    discarded_at: datetime | None


@dataclass(frozen=True, slots=True)
class RestoreRow:
    """A restore; it discards the ledger rows with `after_seq < apply_seq <= last_seq`."""

    id: str
    number: int
    checkpoint_id: str
    from_version: int
    to_version: int
    weights_uri: str | None
    epoch: int
    """The first epoch after it."""
    after_seq: int
    last_seq: int
    num_groups: int
    """Applied groups that it discarded."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DrawRow:
    """One draw of the decision log."""

    epoch: int
    number: int
    policy_version: int | None
    num_waiting: int | None
    tasks: str
    """`ordinal entry lane weight probability` of each task; lanes count from 1."""
    choice: str | None = None
    """Of a pool: the control arm, `|`, and who went back; None without one, or if none is known."""


class Checkpoints(Protocol):
    """Checkpoints of runs, and the ways back to them."""

    async def take(self, run_id: str, plan: CheckpointPlan) -> CheckpointRow:
        """Take a checkpoint now; the stored one if the id exists.

        Raises `RunNotFound`, `VersionConflict`, `IllegalTransition` (too many are pinned).
        """

    async def get(self, run_id: str, checkpoint_id: str) -> CheckpointRow:
        """Raises `CheckpointNotFound`."""

    async def page(self, run_id: str, *, after: int, limit: int) -> Sequence[CheckpointRow]:
        """Checkpoints with a number above `after`, ascending."""

    async def delete(self, run_id: str, checkpoint_id: str) -> CheckpointRow:
        """Forget a checkpoint. Raises `CheckpointNotFound`."""

    async def restore(self, run_id: str, checkpoint_id: str, *, restore_id: str) -> RestoreRow:
        """Bring PostgreSQL back to a checkpoint and raise the epoch, in one transaction.

        A restore id that is stored already changes nothing. Raises `RunNotFound`,
        `CheckpointNotFound`, `IllegalTransition` (discarded, or damaged).
        """

    async def restores(self, run_id: str, *, after: int, limit: int) -> Sequence[RestoreRow]:
        """Restores with a number above `after`, ascending."""

    async def fork(
        self, source_id: str, checkpoint_id: str, run: RunRow, *, notes: NoteColumns | None = None
    ) -> None:
        """Store a new run that begins as the checkpoint; nothing if the run's id exists.

        With `notes`, its tasks are remembered by other columns than the source's.

        Raises `CheckpointNotFound`, `IllegalTransition` (damaged).
        """

    async def draws(
        self, run_id: str, *, after: tuple[int, int], limit: int, pooled: bool = False
    ) -> Sequence[DrawRow]:
        """Draws of the decision log above an (epoch, number), ascending; `pooled`: with choices."""
