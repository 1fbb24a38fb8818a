"""Rollouts that the tasks of a prompt lease get. Part of `ports.races.Races`.

Kept with the lease, so that a repeated call and the report see what the first call decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from .races import LeaseEnd, RunKey


class Allotted(NamedTuple):
    """What one task gets."""

    num_rollouts: int
    screen: int = 0
    """Rollouts of a first phase; 0: one phase."""
    train: bool = True
    """False for a probe."""


Allotments = Mapping[int, Allotted]
"""By the task's ordinal."""


def allotment_words(allotments: Allotments) -> str:
    """`ordinal rollouts screen train`, task after task, as leases and the log keep it."""
    return " ".join(
        f"{ordinal} {one.num_rollouts} {one.screen} {int(one.train)}"
        for ordinal, one in allotments.items()
    )


def parse_allotments(words: str) -> Allotments:
    """What `allotment_words` wrote.

    Raises:
        ValueError: other words.
    """
    numbers = [int(word) for word in words.split()]
    if len(numbers) % 4:
        raise ValueError("an allotment is four words a task")
    return {
        numbers[i]: Allotted(numbers[i + 1], numbers[i + 2], numbers[i + 3] == 1)
        for i in range(0, len(numbers), 4)
    }


class Allots(Protocol):
    """The step after a draw in runs with a budget."""

    async def allot(
        self, run: RunKey, lease_id: str, fence: int, allotments: Allotments
    ) -> Allotments | LeaseEnd:
        """Keep what a lease's tasks get; what was kept before stays, and is returned."""
