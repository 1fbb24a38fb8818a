"""What the dashboard asks of PostgreSQL: bounded reads by an index. Part of `ports.ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from etude_sampler.statistics import Floats, Ints


class Seen(NamedTuple):
    """A task with un-scaffolded statistics, and its place in an order."""

    key: float
    ordinal: int


SeenOrder = Literal["ema_up", "ema_down", "version_up"]


@dataclass(frozen=True, slots=True)
class Fits:
    """Which tasks a list shows."""

    sources: list[str] | None = None
    """None: of every source."""
    subtask: str | None = None
    text: str | None = None
    """Occurs in the task's body, in any case; written as JSON would."""

    @property
    def reads_bodies(self) -> bool:
        """Whether every task that is looked at costs its body."""
        return self.text is not None


@dataclass(frozen=True, slots=True, eq=False)
class Practised:
    """Un-scaffolded groups of the newest ones of a run, newest first."""

    ordinals_N: Ints
    mean_NK: Floats
    """The group's own mean of each component; NaN where it has none."""
    prev_NK: Floats
    """The task's moving averages before; NaN where it had none."""
    new_NK: Floats
    """The same after."""


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """The newest decisions by kind."""

    num: dict[str, int]
    since_ms: int | None
    until_ms: int | None


class Sights(Protocol):
    """Reads whose cost does not grow with the run."""

    async def summaries(self, run_id: str, *, after: int, limit: int) -> list[tuple[int, str]]:
        """Policy versions above `after` with their summaries as JSON, ascending."""

    async def version_times(self, run_id: str, *, newest: int) -> list[datetime]:
        """When the newest versions were announced, oldest first."""

    async def seen(
        self, run_id: str, order: SeenOrder, *, after: Seen | None, limit: int
    ) -> list[Seen]:
        """Seen tasks in an order, from the one after `after` on."""

    async def fitting(self, dataset_id: str, ordinals: Sequence[int], fits: Fits) -> set[int]:
        """Those of some tasks that a list shows."""

    async def between(
        self,
        dataset_id: str,
        fits: Fits,
        *,
        first: int,
        last: int,
        limit: int,
        unseen_by: str | None = None,
    ) -> list[int]:
        """Ordinals `first` to `last` that a list shows; `unseen_by`: that a run has never seen."""

    async def by_prefix(
        self, dataset_id: str, prefix: str, *, after: str, limit: int
    ) -> list[tuple[str, int]]:
        """Drawable tasks (id, ordinal) whose id begins so, by id."""

    async def num_ordinals(self, dataset_id: str) -> int:
        """How many ordinals a dataset has given out."""

    async def practised(self, run_id: str, *, newest: int, num_subtasks: int) -> Practised:
        """The newest groups that were applied."""

    async def averages(self, run_id: str, ordinals: Sequence[int]) -> list[tuple[int, float, int]]:
        """Ordinal, success rate and number of groups of those tasks that were seen."""

    async def newest_decisions(self, run_id: str, *, newest: int) -> DecisionCounts:
        """The newest decisions by kind."""
