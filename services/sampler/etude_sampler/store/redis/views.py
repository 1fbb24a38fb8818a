"""Reading and watching a run's hot state in Redis; what weighs and rebases. Loading: `loading`."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from typing import cast

from redis.exceptions import RedisError

from ...ports.decisions import LoggedDecision
from ...ports.marker import Marker
from ...ports.races import (
    EpochMismatch,
    LaneState,
    RaceState,
    RunKey,
)
from .activity import ActivitySteps
from .allot_steps import AllotSteps
from .connection import Client, outages
from .decision_log import decision
from .heartbeat_steps import HeartbeatSteps
from .keys import BELL_PATTERN, RunKeys, run_of_bell
from .loading import COUNTERS, LoadingSteps
from .move_steps import MoveSteps
from .pool_steps import PoolSteps
from .scripts import Scripts, epoch_word
from .training_steps import TrainingSteps

_PACKED = ("shares", "credits", "clocks", "totals")
_CHUNK = 1000
LANE_REBASE_TASKS = 10_000
"""Largest lane whose arrival times are rebased in one call; a larger one cannot reach the clock
that asks for it within 10^7 draws."""


class RedisRaces(
    TrainingSteps, HeartbeatSteps, LoadingSteps, PoolSteps, MoveSteps, AllotSteps, ActivitySteps
):
    """All of `ports.races.Races` on one client."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def reweigh(self, run: RunKey, items: Sequence[tuple[int, bytes]]) -> int:
        """Re-weigh waiting tasks in chunks."""
        keys = RunKeys(run.run_id)
        applied = 0
        for first in range(0, len(items), _CHUNK):
            chunk = items[first : first + _CHUNK]
            reply = await self._scripts.call(
                "reweigh",
                run.epoch,
                [keys.meta, keys.tasks, keys.log, *keys.lanes(run.num_lanes)],
                [*(word for item in chunk for word in item)],
            )
            applied += int(reply[1])
        return applied

    async def rebase(self, run: RunKey, lane: int) -> bool:
        """Subtract a lane's clock from its arrival times; False if it is too large."""
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "rebase",
            run.epoch,
            [keys.meta, keys.lane(lane), keys.log],
            [lane + 1, run.num_lanes, LANE_REBASE_TASKS],
        )
        return reply[0] == b"ok"

    async def entries(self, run: RunKey, ordinals: Sequence[int]) -> list[bytes | None]:
        """Packed records of tasks."""
        if not ordinals:
            return []
        async with outages():
            reply = await self._redis.hmget(RunKeys(run.run_id).tasks, [str(o) for o in ordinals])
        return cast("list[bytes | None]", reply)

    async def is_waiting(self, run: RunKey, ordinal: int) -> bool:
        """Whether a task stands in lane `uniform`, as every waiting task does."""
        async with outages():
            score = await self._redis.zscore(RunKeys(run.run_id).lane(0), str(ordinal))
        return score is not None

    async def expired(self, run: RunKey) -> tuple[list[str], list[str]]:
        """Leases past their deadline by the server's clock, oldest first, at most 100 of a kind."""
        keys = RunKeys(run.run_id)
        async with outages():
            seconds, micros = await self._redis.time()
            now_ms = seconds * 1000 + micros // 1000
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in (keys.leases, keys.training_leases):
                    pipe.zrangebyscore(key, "-inf", now_ms, start=0, num=100)
                prompt, training = await pipe.execute()
        return [item.decode() for item in prompt], [item.decode() for item in training]

    async def state(self, run: RunKey) -> RaceState:
        """Counters and lanes, read in one transaction."""
        keys = RunKeys(run.run_id)
        async with outages(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.meta, ["epoch", *_PACKED, *COUNTERS])
            for lane in keys.lanes(run.num_lanes):
                pipe.zcard(lane)
            pipe.zcard(keys.leases)
            pipe.zcard(keys.training_leases)
            pipe.zcard(keys.bank)
            meta, *sizes, num_prompt, num_training, num_banked = await pipe.execute()
        if meta[0] != epoch_word(run.epoch, await self._redis.server()).encode():
            raise EpochMismatch("state")
        packed = [struct.unpack(f"<{run.num_lanes}d", word) for word in meta[1 : 1 + len(_PACKED)]]
        lanes = tuple(
            LaneState(share, credit, clock, total / 1e6, size)
            for share, credit, clock, total, size in zip(*packed, sizes, strict=True)
        )
        # A run that an older release loaded lacks the counters that came later.
        counted = (int(word or 0) for word in meta[1 + len(_PACKED) :])
        counts = dict(zip(COUNTERS, counted, strict=True))
        return RaceState(lanes, counts, num_prompt, num_training, num_banked)

    async def markers(self, run_ids: Sequence[str]) -> list[Marker | None]:
        """What Redis holds of each run."""
        if not run_ids:
            return []
        async with outages(), self._redis.pipeline(transaction=False) as pipe:
            for run_id in run_ids:
                pipe.hmget(RunKeys(run_id).meta, ["epoch", "version", "revision", "log_number"])
            found = await pipe.execute()
        return [_marker(row, await self._redis.server()) for row in found]

    async def read_log(self, run: RunKey, count: int) -> list[LoggedDecision]:
        """Oldest decisions in the stream."""
        async with outages():
            reply = await self._redis.xrange(RunKeys(run.run_id).log, count=count)
        rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply)
        return [decision(stream_id, fields) for stream_id, fields in rows]

    async def trim_log(self, run: RunKey, last: str) -> None:
        """Forget decisions up to and including `last`."""
        milliseconds, sequence = last.split("-")
        async with outages():
            await self._redis.xtrim(
                RunKeys(run.run_id).log,
                minid=f"{milliseconds}-{int(sequence) + 1}",
                approximate=False,
            )

    async def ping(self) -> str:
        """Server name and version."""
        async with outages():
            info = await self._redis.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info.get('redis_version'))}"

    async def bells(self) -> AsyncIterator[str]:
        """Run ids whose state changed; reconnects for ever, ringing `*` after each gap."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.psubscribe(BELL_PATTERN)
                    yield "*"
                    while True:
                        message = await pubsub.get_message(timeout=5.0)
                        if message is not None:
                            yield run_of_bell(message["channel"].decode())
            except (OSError, RedisError):
                await asyncio.sleep(0.2)


def _marker(words: Sequence[bytes | None], server: str) -> Marker | None:
    """A run's marker, if it was written on this server."""
    if None in words:
        return None
    epoch, version, revision, decision = (bytes(word or b"").decode() for word in words)
    number, _, written_on = epoch.partition("@")
    if written_on != server:
        return None
    return Marker(int(number), int(version), int(revision), int(decision))
