"""A run's bank in Redis: what training leases hold of it, and how it makes room.

Filled and emptied by `untake`, `take` and `settle` (`training_steps`, `prompt_steps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ...ports.bank import TakenGroup
from ...ports.races import EpochMismatch, RunKey
from .connection import Client, outages
from .keys import RunKeys
from .scripts import Scripts


def all_of(values: Sequence[bytes | None]) -> list[bytes]:
    """What Redis holds. Raises `EpochMismatch`: some of it is not there."""
    found = [value for value in values if value is not None]
    if len(found) != len(values):
        raise EpochMismatch("groups vanished: Redis lost state")
    return found


def _num_replays(place: bytes) -> int:
    """Of a group in a training lease; 0 for one from the ready queue."""
    words = place.split()
    return int(words[3]) if len(words) > 1 else 0


def _order(place: bytes) -> tuple[int, float]:
    """Ready groups by their score, then replayed ones, the greatest rank first."""
    words = place.split()
    return (0, float(words[0])) if len(words) == 1 else (1, -float(words[1]))


async def taken(
    redis: Client, run: RunKey, places: Mapping[bytes, bytes]
) -> tuple[TakenGroup, ...]:
    """Groups of a training lease, in the order in which they were handed out."""
    group_ids = sorted(places, key=lambda group_id: (_order(places[group_id]), group_id))
    if not group_ids:
        return ()
    async with outages():
        reply = await redis.hmget(RunKeys(run.run_id).groups, group_ids)
    manifests = all_of(cast("list[bytes | None]", reply))
    return tuple(
        TakenGroup(group_id.decode(), manifest, _num_replays(places[group_id]))
        for group_id, manifest in zip(group_ids, manifests, strict=True)
    )


class BankSteps:
    """`ports.bank.Banks` on one client."""

    _redis: Client
    _scripts: Scripts

    async def replayed(self, run: RunKey, lease_id: str) -> list[TakenGroup]:
        """Groups of a live training lease that come from the bank, the greatest first."""
        async with outages():
            reply = await self._redis.hgetall(RunKeys(run.run_id).lease_tasks(lease_id))
        places = cast("dict[bytes, bytes]", reply)
        from_bank = {name: place for name, place in places.items() if _num_replays(place)}
        return list(await taken(self._redis, run, from_bank))

    async def shed(self, run: RunKey) -> int:
        """Empty the bank; number of groups forgotten."""
        keys = RunKeys(run.run_id)
        named = [keys.meta, keys.groups, keys.cargo, keys.bank, keys.banked]
        reply = await self._scripts.call("shed", run.epoch, named, [])
        return int(reply[1])

    async def gave_way(self, run: RunKey) -> bool:
        """Whether a bank was there, and has made room on a full server."""
        try:
            return await self.shed(run) > 0
        except EpochMismatch:
            return False  # nothing of the run is there, and the caller hears that nothing fits
