"""One entry of the decision log, between Redis, PostgreSQL and replay."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One entry of the decision log."""

    stream_id: str
    number: int
    kind: str
    lease_id: str
    fence: int
    policy_version: int | None
    num_waiting: int | None
    tasks: str
    records: bytes | None = None
    """Packed: entry numbers and weights that tasks entered with, or the shares of the lanes."""
