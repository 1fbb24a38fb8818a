"""What goes on in a run's hot state: ages of ready groups, live leases. Part of `ports.races`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from .races import RunKey

LeaseOf = Literal["prompt", "training"]


@dataclass(frozen=True, slots=True)
class LiveLease:
    """A lease that has not ended."""

    lease_id: str
    kind: LeaseOf
    worker: str | None
    version: int
    num_left: int
    ttl_ms: int
    remaining_ms: int
    is_extended: bool


@dataclass(frozen=True, slots=True)
class Goings:
    """The hot state as people look at it."""

    version: int
    ready: tuple[tuple[int, int], ...]
    """(staleness, groups); the last stands for all that are older."""
    leases: tuple[LiveLease, ...]
    num_leases: int
    workers: tuple[tuple[str, int], ...]
    """(name, live leases), by name."""
    num_workers: int


class Activities(Protocol):
    """Looking at what goes on; bounded."""

    async def goings(self, run: RunKey, *, max_staleness: int, most: int) -> Goings:
        """Ages of ready groups; at most `most` leases of each kind, and workers.

        Raises `EpochMismatch`.
        """

    async def trajectories(self, run: RunKey, group_id: str) -> bytes | None:
        """Trajectories of a group; None if they are not there."""
