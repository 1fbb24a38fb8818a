"""Heartbeats of leases: what is asked, what is answered. Used by `races`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class BeatRequest:
    """A heartbeat of a prompt lease (`lease`) or a training lease (`tb`)."""

    kind: Literal["lease", "tb"]
    lease_id: str
    fence: int
    ttl_ms: int
    """0 for the lease's own."""
    idempotency_key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Beat:
    """A lease that goes on."""

    deadline_ms: int
    ttl_ms: int
