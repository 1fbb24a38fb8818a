"""Training leases, versions and limits in Redis."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal, cast

from ...errors import IdempotencyKeyReused
from ...ports.races import (
    Announced,
    EpochMismatch,
    LeaseEnd,
    NoGroups,
    Pinned,
    RaceLimits,
    RunKey,
    TakeRequest,
    TrainingLease,
)
from .connection import Client, outages
from .keys import RunKeys
from .prompt_steps import _ENDS, PromptSteps
from .scripts import Scripts, Word


def pack_doubles(values: Sequence[float]) -> bytes:
    """Little-endian float64, as the scripts unpack them."""
    return struct.pack(f"<{len(values)}d", *values)


def _all_of(values: Sequence[bytes | None]) -> list[bytes]:
    found = [value for value in values if value is not None]
    if len(found) != len(values):
        raise EpochMismatch("groups vanished: Redis lost state")
    return found


class TrainingSteps(PromptSteps):
    """The training half of `ports.races.Races`."""

    _redis: Client
    _scripts: Scripts

    async def pin_training(
        self, run: RunKey, lease_id: str, fence: int, *, ttl_ms: int
    ) -> Pinned | LeaseEnd:
        """Prove a training lease and move its deadline."""
        key = RunKeys(run.run_id).training_leases
        return await self._pin(run, key, lease_id, fence=fence, ttl_ms=ttl_ms, words=())

    async def take(self, run: RunKey, request: TakeRequest) -> TrainingLease | NoGroups:
        """Lease the oldest ready groups."""
        keys = RunKeys(run.run_id)
        lease_id = request.lease_id
        reply = await self._scripts.call(
            "take",
            run.epoch,
            [
                keys.meta,
                keys.ready,
                keys.groups,
                keys.training_leases,
                keys.lease(lease_id),
                keys.lease_tasks(lease_id),
                keys.idem,
            ],
            [
                request.num_groups,
                request.refill_limit,
                lease_id,
                request.ttl_ms,
                request.idempotency_key,
                request.body_hash,
                keys.bell,
            ],
        )
        if reply[0] == b"reused":
            raise IdempotencyKeyReused
        if reply[0] == b"replay":
            return await self._read_training_lease(run, reply[1].decode())
        if reply[0] == b"wait":
            return NoGroups("wait", int(reply[1]), int(reply[2]))
        if reply[0] == b"exhausted":
            return NoGroups("exhausted", int(reply[1]), int(reply[2]))
        words = reply[6:]
        return TrainingLease(
            lease_id,
            int(reply[1]),
            int(reply[2]),
            request.ttl_ms,
            int(reply[3]),
            int(reply[4]),
            bool(int(reply[5])),
            tuple((words[i].decode(), words[i + 1]) for i in range(0, len(words), 2)),
        )

    async def _read_training_lease(self, run: RunKey, lease_id: str) -> TrainingLease:
        keys = RunKeys(run.run_id)
        async with outages(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.lease(lease_id), ["fence", "ttl", "version", "drawn", "short"])
            pipe.zscore(keys.training_leases, lease_id)
            pipe.hgetall(keys.lease_tasks(lease_id))
            held, deadline, scores = await pipe.execute()
            if held[0] is None or deadline is None:
                raise EpochMismatch("a training lease ended while it was read")
            group_ids = sorted(scores, key=lambda group_id: (float(scores[group_id]), group_id))
            reply = await self._redis.hmget(keys.groups, group_ids)
        manifests = _all_of(cast("list[bytes | None]", reply))
        return TrainingLease(
            lease_id,
            int(held[0]),
            int(deadline),
            int(held[1]),
            int(held[2]),
            int(held[3]),
            bool(int(held[4])),
            tuple((g.decode(), m) for g, m in zip(group_ids, manifests, strict=True)),
            replayed=True,
        )

    async def untake(
        self, run: RunKey, lease_id: str, fence: int | None, *, kind: str
    ) -> tuple[int, int] | LeaseEnd | Literal["live"]:
        """End a training lease."""
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "untake",
            run.epoch,
            [
                keys.meta,
                keys.ready,
                keys.groups,
                keys.cargo,
                keys.training_leases,
                keys.lease(lease_id),
                keys.lease_tasks(lease_id),
                keys.idem,
            ],
            [lease_id, "" if fence is None else fence, kind, keys.bell],
        )
        if reply[0] == b"live":
            return "live"
        if reply[0] != b"ok":
            return _ENDS[reply[0]]
        return int(reply[1]), int(reply[2])

    async def bodies(self, run: RunKey, group_ids: Sequence[str]) -> list[bytes]:
        """Trajectories of groups, in order."""
        async with outages():
            reply = await self._redis.hmget(RunKeys(run.run_id).cargo, list(group_ids))
        return _all_of(cast("list[bytes | None]", reply))

    async def announce(self, run: RunKey, announced: Announced, *, shares: Sequence[float]) -> int:
        """Push a policy version; 0 purged if it was announced before."""
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "announce",
            run.epoch,
            [keys.meta, keys.ready, keys.groups, keys.cargo, keys.log],
            [
                announced.version,
                announced.weights_uri or "",
                announced.component_weights_json,
                pack_doubles(shares),
                keys.bell,
            ],
        )
        return int(reply[1]) if reply[0] == b"ok" else 0

    async def configure(self, run: RunKey, limits: RaceLimits) -> int:
        """Push limits and pause state; 0 evicted if a newer revision is there already."""
        keys = RunKeys(run.run_id)
        words: list[Word] = [
            limits.revision,
            int(limits.paused),
            limits.cap,
            limits.worker_cap,
            limits.max_staleness,
            limits.cargo_bytes,
            keys.bell,
        ]
        reply = await self._scripts.call(
            "configure",
            run.epoch,
            [keys.meta, keys.ready, keys.groups, keys.cargo, keys.log],
            words,
        )
        return int(reply[1]) if reply[0] == b"ok" else 0
