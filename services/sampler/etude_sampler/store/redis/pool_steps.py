"""Pooled leases in Redis: the choice among candidates, once. Half of it is `prompt_steps.draw`."""

from __future__ import annotations

from typing import Literal

from ...ports.pools import PoolChoice
from ...ports.races import LeaseEnd, RunKey
from .keys import RunKeys
from .scripts import Scripts, Word

_SAID: dict[bytes, Literal["ok", "done"] | LeaseEnd] = {
    b"ok": "ok",
    b"done": "done",
    b"gone": "gone",
    b"superseded": "superseded",
}


class PoolSteps:
    """`ports.pools.Pools.choose`."""

    _scripts: Scripts

    async def choose(
        self, run: RunKey, lease_id: str, fence: int, choice: PoolChoice
    ) -> Literal["ok", "done"] | LeaseEnd:
        """Keep the chosen and enter the others into their lanes."""
        keys = RunKeys(run.run_id)
        words: list[Word] = [lease_id, fence, keys.bell, choice.version, choice.reads]
        words += [" ".join(map(str, choice.control)), len(choice.chosen), *choice.chosen]
        for item in choice.back:
            words += [item.ordinal, item.record, item.exponentials]
        reply = await self._scripts.call(
            "choose",
            run.epoch,
            [
                keys.meta,
                keys.tasks,
                keys.leases,
                keys.lease(lease_id),
                keys.lease_tasks(lease_id),
                keys.log,
                *keys.lanes(run.num_lanes),
            ],
            words,
        )
        return _SAID[reply[0]]
