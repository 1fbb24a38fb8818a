"""Loading a run's hot state during a rebuild: one loader at a time. Part of `ports.races.Races`.

A loader holds a token in Redis itself. Whatever goes wrong meanwhile (another loader, an emptied, a
replaced or a rewound server) makes the token disappear, and every later step of it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from etude_sampler.statistics import Floats, Ints

if TYPE_CHECKING:
    from .races import Announced, RaceLimits, RunKey


@dataclass(frozen=True, slots=True)
class Loader:
    """Who may load a run now."""

    run_id: str
    token: str


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """Waiting tasks on their way into empty lanes."""

    ordinals_N: Ints
    records: Sequence[bytes]
    """Entry number and one weight a lane, packed."""
    weights_NL: Ints
    """Weights in units of 1e-6; 0 where a task does not stand in a lane."""
    arrivals_NL: Floats
    """Arrival times; used where the weight is above 0."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild has got."""

    num_loaded: int
    num_tasks: int


class Loads(Protocol):
    """Steps of a rebuild. All raise `DependencyUnavailable` and `RedisFull`."""

    async def seal(self, run_id: str, *, num_tasks: int) -> Loader:
        """Serve and log nothing more of a run, and let only this loader in.

        What is not yet drained of its decision log stays.
        """

    async def wipe(self, loader: Loader) -> None:
        """Forget everything of a sealed run."""

    async def forget(self, run_id: str) -> None:
        """Take a run out of service, and forget everything of it."""

    async def load(self, run: RunKey, loader: Loader, load: Load) -> None:
        """Add waiting tasks. Raises `EpochMismatch` if the loader has lost its token."""

    async def open(
        self,
        run: RunKey,
        loader: Loader,
        limits: RaceLimits,
        *,
        announced: Announced,
        shares: Sequence[float],
        totals: Sequence[int],
        sizes: Sequence[int],
        num_tasks: int,
    ) -> None:
        """Declare a loaded run ready at its epoch, if it holds all that was loaded.

        `totals` are the lanes' weights in units of 1e-6, `sizes` the tasks in each lane, and
        `num_tasks` all of them, with those that stand in no lane. Raises
        `EpochMismatch` if the loader has lost its token, or if anything is missing.
        """

    async def progress(self, run_ids: Sequence[str]) -> list[Progress | None]:
        """How far the load of each run is; None for runs that are not being loaded."""
