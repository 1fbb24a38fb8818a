"""Prompt leases in Redis: draw, pin, stage, settle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from ...errors import IdempotencyKeyReused
from ...ports.allotments import Allotments, parse_allotments
from ...ports.pools import MAX_CANDIDATES
from ...ports.races import (
    Announced,
    Drawn,
    DrawRequest,
    Entering,
    EpochMismatch,
    LeaseEnd,
    NoTasks,
    Pinned,
    PromptLease,
    RunKey,
    ShortReason,
)
from .connection import Client, outages
from .keys import RunKeys
from .scripts import Scripts, Word

_SHORT: dict[bytes, ShortReason] = {
    b"paused": "paused",
    b"worker_limit": "worker_limit",
    b"empty": "empty",
    b"full": "full",
}
_LEASE = ["fence", "ttl", "version", "uri", "w", "waiting", "keep", "kept", "allot"]
_ENDS: dict[bytes, LeaseEnd] = {b"gone": "gone", b"superseded": "superseded"}


def parse_drawn(ordinal: bytes, how: bytes) -> Drawn:
    """One `entry lane weight p` word of a lease; Lua counts lanes from 1."""
    entry, lane, weight, probability = how.split(b" ")
    return Drawn(int(ordinal), int(entry), int(lane) - 1, int(weight), float(probability))


def _allotted(words: bytes | None) -> Allotments | None:
    """What a lease's tasks get, if that was decided."""
    return parse_allotments(words.decode()) if words else None


def announced(version: bytes, uri: bytes, weights: bytes) -> Announced:
    """The policy version as kept in the meta hash."""
    return Announced(int(version), uri.decode() or None, weights.decode())


class PromptSteps:
    """The prompt half of `ports.races.Races`."""

    _redis: Client
    _scripts: Scripts

    async def draw(self, run: RunKey, request: DrawRequest) -> PromptLease | NoTasks:
        """Draw and lease in one atomic step."""
        keys = RunKeys(run.run_id)
        lease_id = request.lease_id
        reply = await self._scripts.call(
            "draw",
            run.epoch,
            [
                keys.meta,
                keys.tasks,
                keys.leases,
                keys.lease(lease_id),
                keys.lease_tasks(lease_id),
                keys.idem,
                keys.workers,
                keys.log,
                *keys.lanes(run.num_lanes),
            ],
            [
                request.num_tasks,
                lease_id,
                request.worker,
                request.ttl_ms,
                request.idempotency_key,
                request.body_hash,
                request.factor,
                MAX_CANDIDATES,
            ],
        )
        if reply[0] == b"reused":
            raise IdempotencyKeyReused
        if reply[0] == b"replay":
            return await self.read_lease(run, reply[1].decode())
        if reply[0] != b"ok":
            return NoTasks(_SHORT[reply[0]], announced(*reply[1:4]))
        words = reply[8:]
        return PromptLease(
            lease_id,
            int(reply[1]),
            int(reply[2]),
            request.ttl_ms,
            announced(*reply[4:7]),
            int(reply[3]),
            tuple(parse_drawn(words[i], words[i + 1]) for i in range(0, len(words), 2)),
            num_to_keep=int(reply[7]),
        )

    async def read_lease(self, run: RunKey, lease_id: str) -> PromptLease:
        """A live lease as it is now; one that ended meanwhile is an `EpochMismatch`."""
        keys = RunKeys(run.run_id)
        async with outages(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.lease(lease_id), _LEASE)
            pipe.zscore(keys.leases, lease_id)
            pipe.hgetall(keys.lease_tasks(lease_id))
            held, deadline, tasks = await pipe.execute()
        if held[0] is None or deadline is None or int(held[0]) < 0:
            raise EpochMismatch("a lease ended while it was read")
        return PromptLease(
            lease_id,
            int(held[0]),
            int(deadline),
            int(held[1]),
            announced(held[2], held[3], held[4]),
            int(held[5]),
            tuple(parse_drawn(ordinal, how) for ordinal, how in tasks.items()),
            replayed=True,
            num_to_keep=int(held[6] or 0),
            num_kept=None if held[7] is None else int(held[7]),
            allotted=_allotted(held[8]),
        )

    async def pin(
        self, run: RunKey, lease_id: str, fence: int, *, ttl_ms: int, ordinals: Sequence[int]
    ) -> Pinned | LeaseEnd:
        """Prove a prompt lease and move its deadline."""
        return await self._pin(
            run, RunKeys(run.run_id).leases, lease_id, fence=fence, ttl_ms=ttl_ms, words=ordinals
        )

    async def _pin(
        self,
        run: RunKey,
        leases_key: str,
        lease_id: str,
        *,
        fence: int,
        ttl_ms: int,
        words: Sequence[Word],
    ) -> Pinned | LeaseEnd:
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "pin",
            run.epoch,
            [keys.meta, leases_key, keys.lease(lease_id), keys.lease_tasks(lease_id)],
            [lease_id, fence, ttl_ms, *words],
        )
        if reply[0] != b"ok":
            return _ENDS[reply[0]]
        found = cast("list[bytes | None]", reply[8:])
        drawn = tuple(
            None if how is None else parse_drawn(str(word).encode(), how)
            for word, how in zip(words, found, strict=True)
        )
        return Pinned(
            int(reply[1]),
            int(reply[2]),
            reply[3].decode(),
            int(reply[4]),
            int(reply[5]),
            int(reply[6]),
            drawn,
            _allotted(reply[7]),
        )

    async def stage(self, run: RunKey, group_id: str, body: bytes) -> bool:
        """Keep a group's trajectories under its live lease; False without room, or too late."""
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "stage",
            run.epoch,
            [
                *(keys.meta, keys.cargo, keys.ready, keys.groups),
                keys.lease_tasks(group_id.rpartition(":")[0]),
                *(keys.bank, keys.banked),
            ],
            [group_id, body],
        )
        return reply[0] == b"ok"

    async def seal_lease(
        self, run: RunKey, lease_id: str, fence: int | None
    ) -> int | LeaseEnd | Literal["live"]:
        """Let no report or heartbeat of a prompt lease pass any more."""
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "seal_lease",
            run.epoch,
            [keys.meta, keys.leases, keys.lease(lease_id)],
            [lease_id, "" if fence is None else fence],
        )
        if reply[0] == b"live":
            return "live"
        return int(reply[1]) if reply[0] == b"ok" else _ENDS[reply[0]]

    async def settle(
        self, run: RunKey, lease_id: str, fence: int | None, *, kind: str, items: Sequence[Entering]
    ) -> tuple[int, int] | LeaseEnd | Literal["live"]:
        """Take tasks out of a lease and enter them into their lanes."""
        keys = RunKeys(run.run_id)
        words: list[Word] = [lease_id, "" if fence is None else fence, kind, keys.bell]
        for item in items:
            words += [
                item.ordinal,
                item.record,
                item.exponentials,
                item.ready_score,
                item.manifest,
                item.note,
            ]
        reply = await self._scripts.call(
            "settle",
            run.epoch,
            [
                keys.meta,
                keys.tasks,
                keys.leases,
                keys.lease(lease_id),
                keys.lease_tasks(lease_id),
                keys.idem,
                keys.workers,
                keys.log,
                keys.ready,
                keys.groups,
                keys.cargo,
                keys.bank,
                keys.banked,
                *keys.lanes(run.num_lanes),
            ],
            words,
        )
        if reply[0] == b"live":
            return "live"
        if reply[0] != b"ok":
            return _ENDS[reply[0]]
        return int(reply[1]), int(reply[2])

    async def lease_tasks(self, run: RunKey, lease_id: str) -> tuple[Drawn, ...]:
        """Tasks still in a prompt lease."""
        async with outages():
            reply = await self._redis.hgetall(RunKeys(run.run_id).lease_tasks(lease_id))
        tasks = cast("dict[bytes, bytes]", reply)
        return tuple(parse_drawn(ordinal, how) for ordinal, how in tasks.items())
