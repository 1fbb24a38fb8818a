"""Bounds on the calls of one key: a bucket in Redis that all replicas share.

A replica takes calls out of it in lumps, so that few requests wait for Redis; a lump that is not
used within a second is lost. While Redis is away each replica counts by itself.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from ..errors import DependencyUnavailable, RateLimited
from ..ports.keys import Allowance, Throttle

_LUMP_LIFE_S = 1.0
_LONGEST_WAIT_S = 0.25
"""For Redis; the call itself will notice soon enough that it is away."""
_ALONE_S = 5.0
"""How long a replica counts by itself before it asks Redis again."""
_MAX_NAMES = 4096


@dataclass(slots=True)
class _Bucket:
    """What this replica holds of one key's bucket."""

    credit: int = 0
    until: float = float("-inf")
    left: int = 0
    wait_s: float = 0.0
    denied_until: float = float("-inf")
    own_left: float = -1.0
    """Of the bucket that is used while Redis is away; negative before its first use."""
    own_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Spent:
    """What the answer's `RateLimit` headers say."""

    left: int
    wait_s: float


class Rates:
    """Counts calls by key; one in a process."""

    def __init__(self, throttle: Throttle, *, per_s: float, burst: int) -> None:
        """
        Args:
            throttle: the shared buckets.
            per_s: calls a second that a key may make for ever; 0 for no bound.
            burst: calls that it may make at once.
        """
        self._throttle = throttle
        self._per_s = per_s
        self._burst = burst
        self._lump = max(1, min(burst // 20, int(per_s / 10)))
        self._buckets: dict[str, _Bucket] = {}
        self._alone_until = float("-inf")

    @property
    def policy(self) -> str:
        """The `RateLimit-Policy` header; empty without a bound."""
        if self._per_s == 0:
            return ""
        return f'"key";q={self._burst};w={max(1, round(self._burst / self._per_s))}'

    async def spend(self, name: str) -> Spent:
        """Count one call of a key.

        Raises:
            RateLimited: it has none left for now.
        """
        if len(self._buckets) >= _MAX_NAMES and name not in self._buckets:
            self._buckets.clear()
        bucket = self._buckets.setdefault(name, _Bucket())
        if self._is_out(bucket):
            async with bucket.lock:
                if self._is_out(bucket):
                    await self._fill(name, bucket)
        if bucket.credit < 1:
            raise RateLimited(
                f"{self._per_s:g} calls a second, {self._burst} at once",
                retry_after_s=bucket.wait_s,
            )
        bucket.credit -= 1
        return Spent(bucket.left + bucket.credit, bucket.wait_s)

    def _is_out(self, bucket: _Bucket) -> bool:
        now = time.monotonic()
        return now >= bucket.denied_until and (bucket.credit < 1 or now >= bucket.until)

    async def _fill(self, name: str, bucket: _Bucket) -> None:
        given = await self._take(name, bucket)
        now = time.monotonic()
        bucket.credit, bucket.until = given.granted, now + _LUMP_LIFE_S
        bucket.left, bucket.wait_s = given.left, given.wait_s
        if given.granted == 0:
            bucket.denied_until = now + min(given.wait_s, 0.1)

    async def _take(self, name: str, bucket: _Bucket) -> Allowance:
        if time.monotonic() >= self._alone_until:
            call = self._throttle.take(name, self._lump, per_s=self._per_s, burst=self._burst)
            try:
                return await asyncio.wait_for(call, _LONGEST_WAIT_S)
            except (DependencyUnavailable, TimeoutError):
                self._alone_until = time.monotonic() + _ALONE_S
        return self._own(bucket)

    def _own(self, bucket: _Bucket) -> Allowance:
        """The same arithmetic as `throttle.lua`, on this replica's clock."""
        now = time.monotonic()
        left = float(self._burst)
        if bucket.own_left >= 0:
            left = min(left, bucket.own_left + (now - bucket.own_at) * self._per_s)
        granted = min(self._lump, int(left))
        bucket.own_left, bucket.own_at = left - granted, now
        wait_s = 0.0 if bucket.own_left >= 1 else (1 - bucket.own_left) / self._per_s
        return Allowance(granted, int(bucket.own_left), wait_s)
