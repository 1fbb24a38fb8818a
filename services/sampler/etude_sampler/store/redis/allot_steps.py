"""Rollouts of a lease's tasks in Redis: kept once, with the lease."""

from __future__ import annotations

from ...ports.allotments import Allotments, allotment_words, parse_allotments
from ...ports.races import LeaseEnd, RunKey
from .keys import RunKeys
from .scripts import Scripts

_ENDS: dict[bytes, LeaseEnd] = {b"gone": "gone", b"superseded": "superseded"}


class AllotSteps:
    """`ports.allotments.Allots`."""

    _scripts: Scripts

    async def allot(
        self, run: RunKey, lease_id: str, fence: int, allotments: Allotments
    ) -> Allotments | LeaseEnd:
        """Keep what a lease's tasks get; what was kept before stays, and is returned."""
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "allot",
            run.epoch,
            [keys.meta, keys.lease(lease_id), keys.log],
            [lease_id, fence, allotment_words(allotments)],
        )
        if reply[0] != b"ok":
            return _ENDS[reply[0]]
        return parse_allotments(reply[1].decode())
