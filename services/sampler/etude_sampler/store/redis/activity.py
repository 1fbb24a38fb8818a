"""Looking at leases, workers and the ready queue: `ports.activity.Activities` on one client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...ports.activity import Goings, LeaseOf, LiveLease
from ...ports.races import READY_SCALE, EpochMismatch, RunKey
from .connection import Client, outages
from .keys import RunKeys
from .scripts import epoch_word

_MOST_AGES = 64
"""Ages of ready groups that are told apart (our choice)."""
_FIELDS = ("worker", "version", "ttl", "beat")
_Held = tuple[bytes, float]


class ActivitySteps:
    """Reads in two rounds: what there is, then the leases of it."""

    _redis: Client

    async def goings(self, run: RunKey, *, max_staleness: int, most: int) -> Goings:
        """What goes on; leases that end while they are read are left out."""
        keys = RunKeys(run.run_id)
        async with outages():
            seconds, micros = await self._redis.time()
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hmget(keys.meta, ["epoch", "version"])
                for key in (keys.leases, keys.training_leases):
                    pipe.zrange(key, 0, most - 1, withscores=True)
                    pipe.zcard(key)
                pipe.hlen(keys.workers)
                pipe.hscan(keys.workers, count=most)
                (
                    meta,
                    prompt,
                    num_prompt,
                    training,
                    num_training,
                    num_workers,
                    scan,
                ) = await pipe.execute()
            if meta[0] != epoch_word(run.epoch, await self._redis.server()).encode():
                raise EpochMismatch("activity")
            version = int(meta[1])
            ready = await self._ready(keys.ready, version, max_staleness)
            now_ms = seconds * 1000 + micros // 1000
            leases = [
                *await self._leases(keys, "prompt", prompt, now_ms),
                *await self._leases(keys, "training", training, now_ms),
            ]
        workers = sorted((name.decode(), int(num)) for name, num in scan[1].items())
        return Goings(
            version,
            tuple(ready),
            tuple(leases),
            num_prompt + num_training,
            tuple(workers[:most]),
            num_workers,
        )

    async def trajectories(self, run: RunKey, group_id: str) -> bytes | None:
        """Trajectories of a group; None if they are not there."""
        async with outages():
            found = await self._redis.hget(RunKeys(run.run_id).cargo, group_id)
        return cast("bytes | None", found)

    async def _ready(self, key: str, version: int, max_staleness: int) -> list[tuple[int, int]]:
        """Ready groups by age: one count of the queue's order for each."""
        ages = range(min(version, max_staleness, _MOST_AGES) + 1)
        async with self._redis.pipeline(transaction=False) as pipe:
            for age in ages:
                oldest = version - age
                low = "-inf" if age == ages[-1] else str(oldest * READY_SCALE)
                high = "+inf" if age == 0 else f"({(oldest + 1) * READY_SCALE}"
                pipe.zcount(key, low, high)
            counts = await pipe.execute()
        return list(zip(ages, counts, strict=True))

    async def _leases(
        self, keys: RunKeys, kind: LeaseOf, held: Sequence[_Held], now_ms: int
    ) -> list[LiveLease]:
        names = [(name.decode(), int(deadline)) for name, deadline in held]
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, _ in names:
                pipe.hmget(keys.lease(name), _FIELDS)
                pipe.hlen(keys.lease_tasks(name))
            found = await pipe.execute() if names else []
        return [
            LiveLease(
                name,
                kind,
                None if fields[0] is None else fields[0].decode(),
                int(fields[1]),
                num_left,
                int(fields[2]),
                deadline - now_ms,
                fields[3] is not None,
            )
            for (name, deadline), fields, num_left in zip(
                names, found[::2], found[1::2], strict=True
            )
            if fields[1] is not None
        ]
