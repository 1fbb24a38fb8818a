"""The ground the steps stand on: ports, caches, and running a step at the right epoch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ..errors import LeaseNotFound, Rebuilding, RunNotFound
from ..ports.catalog import Catalog
from ..ports.ledger import Ledger
from ..ports.races import EpochMismatch, Races
from .bells import Bells
from .context import RunContext, RunContexts, TaskCache
from .identifiers import LeaseKind, check_lease_id, run_of_lease

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that the steps share in one process."""

    catalog: Catalog
    ledger: Ledger
    races: Races
    heartbeat_races: Races
    """A separate, small pool, so that heartbeats never queue behind long work."""
    contexts: RunContexts
    tasks: TaskCache
    bells: Bells
    request_rebuild: Callable[[str], None]
    """Ask the background to rebuild a run's hot state."""
    commit_timeout_s: float
    """Longest PostgreSQL transaction; a pinned lease outlives it."""

    @property
    def pin_ms(self) -> int:
        """How long a pin keeps a lease, at least."""
        return int(self.commit_timeout_s * 1500)

    async def on_run(self, run_id: str, step: Callable[[RunContext], Awaitable[T]]) -> T:
        """Run a step; once more with fresh data if Redis is at another epoch.

        Raises:
            Rebuilding: Redis does not hold the run; the rebuild has been asked for.
        """
        try:
            return await step(await self.contexts.get(run_id))
        except EpochMismatch:
            pass
        context = await self.contexts.refresh(run_id)
        try:
            return await step(context)
        except EpochMismatch as error:
            self.request_rebuild(run_id)
            raise Rebuilding(f"run {run_id} is being rebuilt from PostgreSQL") from error

    async def leased_run(self, kind: LeaseKind, lease_id: str) -> RunContext:
        """The run of a lease id, its signature checked.

        Raises:
            LeaseNotFound: this service never issued the id.
        """
        try:
            context = await self.contexts.get(run_of_lease(kind, lease_id))
        except RunNotFound as error:
            raise LeaseNotFound(f"no lease {lease_id!r}") from error
        check_lease_id(kind, lease_id, context.row.secret)
        return context
