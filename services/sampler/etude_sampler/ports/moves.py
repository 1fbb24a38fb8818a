"""Moves: tasks that change lanes while nobody holds them. Part of `ports.races.Races`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .races import Entering, RunKey


class Moves(Protocol):
    """What the end of a round of hard sampling does to the lanes."""

    async def move(self, run: RunKey, items: Sequence[Entering]) -> int:
        """Move tasks that wait or are parked, under their next entry numbers; the number moved.

        A task that is leased, or whose entry number is another, stays as it is.
        """
