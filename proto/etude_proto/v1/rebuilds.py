"""Rebuilds: a run's hot state in Redis, loaded anew from PostgreSQL."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Id, Response


class RebuildReason(StrEnum):
    """Why a run's hot state was loaded."""

    CREATED = "created"
    """The run is new."""
    MISSING = "missing"
    """Redis did not hold the run, or only a copy that was written on another server."""
    EPOCH = "epoch"
    """Redis held the run at another epoch: an older copy, or the run was restored."""
    REWOUND = "rewound"
    """Redis had forgotten decisions that PostgreSQL knows."""
    ASKED = "asked"
    """Somebody asked for it."""


class Rebuild(Response):
    """What a rebuild found and did."""

    run_id: Id
    reason: RebuildReason
    epoch: int
    """The run's epoch since then."""
    num_tasks: int
    """Tasks that entered their lanes."""
    num_tasks_seen: int
    """Those of them with statistics."""
    seconds: float
    statistics_digest: str
    """SHA-256 of the un-scaffolded statistics; the same before and after."""


class LoadProgress(Response):
    """How far a rebuild is; hot paths answer 503 `rebuilding` meanwhile."""

    num_loaded: int
    num_tasks: int
    share: float = Field(ge=0.0, le=1.0)
