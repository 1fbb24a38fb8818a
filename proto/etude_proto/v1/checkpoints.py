"""Curriculum checkpoints: back to a step (restore), or another run from a step (fork)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Id, Name, Request, Response, Version
from .curriculum import CurriculumConfig
from .marks import CheckpointMark
from .runs import LimitsUpdate


class CheckpointCreate(CheckpointMark):
    """Take a checkpoint of a run as it is now."""

    policy_version: Version | None = None
    """The version that the run must be at (else 409 `version_conflict`); default: whichever."""


class Checkpoint(Response):
    """Statistics, mastery and counters of a run at one moment."""

    id: Id
    run_id: Id
    number: int
    """Counts the checkpoints of the run, in the order in which they were taken."""
    label: str | None
    pinned: bool
    """Never dropped by retention."""
    policy_version: Version
    weights_uri: str | None
    """Model weights of that version."""
    apply_seq: int
    """Last ledger row that it holds."""
    num_task_statistics: int
    """Tasks, at each scaffold level apart, that have statistics."""
    num_bytes: int
    """Size as stored, compressed."""
    sha256: str
    """Digest of statistics and predictions: equal digests, equal bits."""
    created_at: str
    discarded_at: str | None
    """When a restore to an earlier checkpoint made it part of a discarded future."""


class CheckpointPage(Response):
    """`GET /v1/runs/{run_id}/checkpoints`, oldest first."""

    items: list[Checkpoint]
    next_cursor: str | None


class RestoreRequest(Request):
    """Take a run back to a checkpoint."""

    checkpoint_id: Id


class Restore(Response):
    """A run went back to a checkpoint; what came after it is discarded, not deleted."""

    id: Id
    run_id: Id
    checkpoint_id: Id
    from_version: Version
    """Policy version that the run was at."""
    policy_version: Version
    """Policy version that it went back to."""
    weights_uri: str | None
    epoch: int
    """First epoch after it; leases and training batches of earlier ones are void."""
    num_groups_discarded: int
    """Groups that had counted and do not any more; the ledger keeps them."""
    created_at: str


class RestorePage(Response):
    """`GET /v1/runs/{run_id}/restores`, oldest first."""

    items: list[Restore]
    next_cursor: str | None


class ForkRequest(Request):
    """Begin another run from a checkpoint of this one; what is not given stays the same."""

    name: Name
    checkpoint_id: Id | None = None
    """Default: a checkpoint that is taken now."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    curriculum: CurriculumConfig | None = None
    """Other parts over the same sub-tasks."""
    limits: LimitsUpdate | None = None


class DrawnTask(Response):
    """One task of a draw."""

    ordinal: int
    lane: str
    """The lane whose slot it took."""
    entry: int
    """Number of the stay in the lanes that ended."""
    weight: float
    """In that lane."""
    slot_probability: float


class Draw(Response):
    """One draw of the decision log."""

    epoch: int
    number: int
    """Place in the log of its epoch, beside releases, reports and expiries."""
    policy_version: Version
    num_waiting: int
    tasks: list[DrawnTask]
    """Of a pool's candidates those that were kept, once the choice is known."""
    num_candidates: int | None = None
    """Candidates that a pool chose among; null without a pool, or before its choice is known."""


class DrawPage(Response):
    """`GET /v1/runs/{run_id}/draws`, oldest first; the newest second may still be missing."""

    items: list[Draw]
    next_cursor: str | None
