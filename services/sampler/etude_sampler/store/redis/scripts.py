"""The Lua commands: loaded from package data, called by digest, status words mapped once.

A script's first reply word is its status: `epoch` means that Redis does not hold the run at the
caller's epoch and becomes `EpochMismatch`; the callers map the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from ...ports.races import EpochMismatch
from .connection import outages

Word = bytes | str | int | float

NAMES = (
    "announce",
    "configure",
    "draw",
    "pin",
    "rebase",
    "reweigh",
    "settle",
    "stage",
    "take",
    "untake",
)


@dataclass(frozen=True, slots=True)
class Script:
    """One command: its source and SHA-1 digest."""

    name: str
    source: str
    digest: str


def load(name: str) -> Script:
    """Read one command from the package."""
    source = (files(__package__) / "lua" / f"{name}.lua").read_text("utf-8")
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class Scripts:
    """Runs commands on one client."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = {name: load(name) for name in NAMES}

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> list[bytes]:
        """Run a command and return its reply.

        Raises:
            EpochMismatch: Redis does not hold the run at that epoch.
            DependencyUnavailable: Redis does not answer.
        """
        script = self._scripts[name]
        reply: list[bytes]
        async with outages():
            try:
                reply = await self._redis.evalsha(script.digest, len(keys), *keys, *args)
            except NoScriptError:
                reply = await self._redis.eval(script.source, len(keys), *keys, *args)
        if reply[0] == b"epoch":
            raise EpochMismatch(name)
        return reply
