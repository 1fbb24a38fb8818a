"""Buckets of calls in Redis, one a key, shared by all replicas. Not of any run, so no epoch."""

from __future__ import annotations

from redis.exceptions import NoScriptError

from ...ports.keys import Allowance
from .connection import Client, outages
from .keys import bucket
from .scripts import load


class RedisThrottle:
    """`ports.keys.Throttle`."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._script = load("throttle")

    async def take(self, name: str, wanted: int, *, per_s: float, burst: int) -> Allowance:
        """Take up to `wanted` calls. Raises `DependencyUnavailable`."""
        words: list[str | int] = [bucket(name), str(per_s), burst, wanted]
        async with outages():
            try:
                reply = await self._redis.evalsha(self._script.digest, 1, *words)
            except NoScriptError:
                reply = await self._redis.eval(self._script.source, 1, *words)
        granted, left, wait_ms = (int(word) for word in reply)
        return Allowance(granted, left, wait_ms / 1000)
