"""How a run is told apart from an older copy of itself: in PostgreSQL, and as Redis holds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marker:
    """What both servers must agree on."""

    epoch: int
    """Raised by every rebuild."""
    version: int
    """The newest policy version; in Redis, the newest that was announced."""
    revision: int
    """Of the run's limits and pause state."""
    decision: int = 0
    """Number of a decision of that epoch: the newest that was drained to PostgreSQL, or the newest
    that Redis has logged. Redis is never behind, unless it was rewound."""
