"""Who is calling: bearer keys compared with the configured ones and with PostgreSQL's.

Every replica holds the live keys and reads them again every second, so a key made or revoked on
another replica counts within `STALE_S`. Comparison is by digest and in constant time.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from etude_proto.keys import digest_of, id_of
from etude_proto.v1 import Scope

from ..errors import DependencyUnavailable, Unauthorized
from ..ports.keys import KeyRing, Keys

FRESH_S = 1.0
"""Keys read so long ago are used as they are."""
STALE_S = 3.0
"""Keys read so long ago are not used: the longest life of a revoked key on another replica."""
_MISS_S = 0.25
"""An unknown key makes a replica look again, but not more often than this."""
_NOTE_S = 60.0
_LOG = logging.getLogger("etude.keys")
_RUN_ID = re.compile(r"run_[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Caller:
    """What a call's key allows."""

    key: str
    """Id of the key, `configured` for one of `ETUDE_API_KEYS`, or `open`: no key is asked for."""
    scopes: frozenset[Scope]
    runs: frozenset[str] | None = None
    """Ids or names of the only runs; None for all."""

    def may(self, scope: Scope) -> bool:
        """Whether the key has the scope: `admin` has all, and each may read."""
        return Scope.ADMIN in self.scopes or scope in self.scopes or scope is Scope.READ

    @property
    def run_names(self) -> frozenset[str]:
        """Those of `runs` that are names: nothing of an id's form is one."""
        return frozenset(r for r in self.runs or () if _RUN_ID.fullmatch(r) is None)

    @property
    def run_ids(self) -> frozenset[str]:
        """Those of `runs` that are ids."""
        return (self.runs or frozenset()) - self.run_names


_ADMIN = frozenset({Scope.ADMIN})
OPEN = Caller("open", _ADMIN)
CONFIGURED = Caller("configured", _ADMIN)


class Callers:
    """Identifies callers; one in a process."""

    def __init__(self, keys: Keys, configured: Sequence[bytes]) -> None:
        """
        Args:
            keys: the stored keys.
            configured: digests of the keys of `ETUDE_API_KEYS`.
        """
        self._keys = keys
        self._configured = tuple(configured)
        self._ring = KeyRing({}, ever=False)
        self._callers: dict[str, Caller] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._used: set[str] = set()
        self._noted_at = float("-inf")

    async def identify(self, bearer: str | None) -> Caller:
        """The caller behind a bearer key, or `OPEN` where no key is asked for.

        Raises:
            Unauthorized: a key is asked for, and this is none of them (any more).
            DependencyUnavailable: the stored keys cannot be read.
        """
        digest = None if bearer is None else digest_of(bearer)
        if digest is not None and _is_one_of(digest, self._configured):
            return CONFIGURED
        await self._read_again(STALE_S)
        name = None if bearer is None else id_of(bearer)
        if name is not None and digest is not None:
            if name not in self._ring.live:
                await self._read_again(_MISS_S)
            held = self._ring.live.get(name)
            if (
                held is not None
                and hmac.compare_digest(digest, held.digest)
                and (held.left_s is None or time.monotonic() < self._read_at + held.left_s)
            ):
                self._used.add(name)
                return self._callers[name]
        if not self._configured and not self._ring.ever:
            return OPEN
        raise Unauthorized("send Authorization: Bearer KEY, with a key that is not revoked or over")

    async def any(self) -> bool:
        """Whether anybody holds a key now. Raises `DependencyUnavailable`."""
        if self._configured:
            return True
        await self._read_again(0.0)
        return bool(self._ring.live)

    def forget(self) -> None:
        """Read the stored keys before they are used again."""
        self._read_at = float("-inf")

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read_again(self, stale_s: float) -> None:
        """Read in the background after `FRESH_S`, and wait for it after `stale_s`."""
        age_s = time.monotonic() - self._read_at
        if age_s < min(FRESH_S, stale_s):
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(_seen)
        if age_s >= stale_s:
            await asyncio.shield(self._reading)

    async def _read(self) -> None:
        begun = time.monotonic()
        ring = await self._keys.ring()
        self._callers = {
            name: Caller(name, held.scopes, held.runs) for name, held in ring.live.items()
        }
        self._ring, self._read_at = ring, begun
        if self._used and begun - self._noted_at > _NOTE_S:
            used, self._used, self._noted_at = sorted(self._used), set(), begun
            await self._keys.used(used)


def _is_one_of(digest: bytes, known: Sequence[bytes]) -> bool:
    """Compares with every one, so that the time tells nothing of which."""
    found = False
    for one in known:
        found |= hmac.compare_digest(digest, one)
    return found


def _seen(task: asyncio.Task[None]) -> None:
    """A reading that failed in the background is tried again by the next call."""
    if not task.cancelled() and isinstance(task.exception(), DependencyUnavailable):
        _LOG.warning("keys.unread")
