"""Pools: a prompt lease of candidates, of which the best are kept. Part of `ports.races.Races`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from .races import Drawn, Entering, LeaseEnd, PromptLease, RunKey

MAX_CANDIDATES = 4096
"""Most candidates of a batch (our choice): as many tasks as the largest batch without a pool."""


@dataclass(frozen=True, slots=True)
class PoolChoice:
    """Who of a lease's candidates stays; the others go back."""

    version: int
    """Policy version of the choice: of staleness, and of a part's pace."""
    control: tuple[int, ...]
    """Ordinals of the control arm."""
    chosen: tuple[int, ...]
    """Ordinals that the pool's part chose."""
    back: Sequence[Entering]
    reads: bytes = b""
    """What was read beside statistics and tasks, for replay: packed float64, one a candidate."""


class Pools(Protocol):
    """The second step of a pooled draw, and what a prompt lease holds."""

    async def choose(
        self, run: RunKey, lease_id: str, fence: int, choice: PoolChoice
    ) -> Literal["ok", "done"] | LeaseEnd:
        """Keep the chosen and enter the others into their lanes; `done` if it was done before."""

    async def read_lease(self, run: RunKey, lease_id: str) -> PromptLease:
        """A live lease as it is now. Raises `EpochMismatch` if it has ended."""

    async def lease_tasks(self, run: RunKey, lease_id: str) -> tuple[Drawn, ...]:
        """Tasks still in a prompt lease."""
