"""Training leases, versions and limits in Redis."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal, cast

from ...errors import IdempotencyKeyReused, RedisFull
from ...ports.bank import BankRule, TakenGroup
from ...ports.races import (
    Announced,
    DrawRequest,
    EpochMismatch,
    LeaseEnd,
    NoGroups,
    NoTasks,
    Pinned,
    PromptLease,
    RaceLimits,
    RunKey,
    TakeRequest,
    TrainingLease,
)
from .bank_steps import BankSteps, all_of, taken
from .connection import Client, outages
from .keys import RunKeys
from .prompt_steps import _ENDS, PromptSteps
from .scripts import Scripts, Word


def pack_doubles(values: Sequence[float]) -> bytes:
    """Little-endian float64, as the scripts unpack them."""
    return struct.pack(f"<{len(values)}d", *values)


class TrainingSteps(BankSteps, PromptSteps):
    """The training half of `ports.races.Races`."""

    _redis: Client
    _scripts: Scripts

    async def draw(self, run: RunKey, request: DrawRequest) -> PromptLease | NoTasks:
        """Draw and lease; on a full server the run's bank gives way first."""
        try:
            return await super().draw(run, request)
        except RedisFull:
            if not await self.gave_way(run):
                raise
        return await super().draw(run, request)

    async def stage(self, run: RunKey, group_id: str, body: bytes) -> bool:
        """Keep a group's trajectories; on a full server the run's bank gives way first."""
        try:
            return await super().stage(run, group_id, body)
        except RedisFull:
            if not await self.gave_way(run):
                raise
        return await super().stage(run, group_id, body)

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
                keys.bank,
                keys.banked,
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
            tuple(
                TakenGroup(words[i].decode(), words[i + 1], int(words[i + 2]))
                for i in range(0, len(words), 3)
            ),
        )

    async def _read_training_lease(self, run: RunKey, lease_id: str) -> TrainingLease:
        keys = RunKeys(run.run_id)
        async with outages(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.lease(lease_id), ["fence", "ttl", "version", "drawn", "short"])
            pipe.zscore(keys.training_leases, lease_id)
            pipe.hgetall(keys.lease_tasks(lease_id))
            held, deadline, places = await pipe.execute()
            if held[0] is None or deadline is None:
                raise EpochMismatch("a training lease ended while it was read")
        groups = await taken(self._redis, run, places)
        return TrainingLease(
            lease_id,
            int(held[0]),
            int(deadline),
            int(held[1]),
            int(held[2]),
            int(held[3]),
            bool(int(held[4])),
            groups,
            replayed=True,
        )

    async def untake(
        self,
        run: RunKey,
        lease_id: str,
        fence: int | None,
        *,
        kind: str,
        bank: BankRule | None = None,
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
                keys.bank,
                keys.banked,
            ],
            [
                *(lease_id, "" if fence is None else fence, kind, keys.bell),
                *((0, 0) if bank is None else (bank.num_groups, bank.max_replays)),
            ],
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
        return all_of(cast("list[bytes | None]", reply))

    async def announce(self, run: RunKey, announced: Announced, *, shares: Sequence[float]) -> int:
        """Push a policy version; 0 purged if it was announced before."""
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "announce",
            run.epoch,
            [keys.meta, keys.ready, keys.groups, keys.cargo, keys.log, keys.bank, keys.banked],
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
            [keys.meta, keys.ready, keys.groups, keys.cargo, keys.log, keys.bank, keys.banked],
            words,
        )
        return int(reply[1]) if reply[0] == b"ok" else 0
