"""Moving tasks between lanes in Redis: `ports.moves.Moves` on one client."""

from __future__ import annotations

from collections.abc import Sequence

from ...ports.races import Entering, RunKey
from .keys import RunKeys
from .scripts import Scripts

_AT_ONCE = 500
"""Tasks of one call: about a millisecond of the server's time (our choice)."""


class MoveSteps:
    """Moves tasks in chunks."""

    _scripts: Scripts

    async def move(self, run: RunKey, items: Sequence[Entering]) -> int:
        """Move tasks that wait or are parked; the number moved."""
        keys = RunKeys(run.run_id)
        moved = 0
        for first in range(0, len(items), _AT_ONCE):
            chunk = items[first : first + _AT_ONCE]
            reply = await self._scripts.call(
                "move",
                run.epoch,
                [keys.meta, keys.tasks, keys.log, *keys.lanes(run.num_lanes)],
                [
                    keys.bell,
                    *(word for i in chunk for word in (i.ordinal, i.record, i.exponentials)),
                ],
            )
            moved += int(reply[1])
        return moved
