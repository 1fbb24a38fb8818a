"""The Lua commands: loaded from package data, called by digest, status words mapped once.

A script's first reply word is its status: `epoch` means that Redis does not hold the run at the
caller's epoch and becomes `EpochMismatch`; the callers map the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from redis.exceptions import NoScriptError

from ...errors import DependencyUnavailable
from ...ports.races import EpochMismatch
from .connection import Client, outages

Word = bytes | str | int | float

NAMES = (
    "allot",
    "announce",
    "beat",
    "choose",
    "configure",
    "draw",
    "load",
    "move",
    "open",
    "pin",
    "rebase",
    "reweigh",
    "seal",
    "seal_lease",
    "settle",
    "shed",
    "stage",
    "take",
    "throttle",
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


def epoch_word(epoch: int, server: str) -> str:
    """How a run's epoch is written in Redis: it holds on the server that it was written on.

    A server that comes back, or takes over, with an older copy has another run id, so every script
    refuses until the run is rebuilt.
    """
    return f"{epoch}@{server}"


class Scripts:
    """Runs commands on one client."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._scripts = {name: load(name) for name in NAMES}

    async def call(
        self, name: str, epoch: int, keys: Sequence[str], args: Sequence[Word]
    ) -> list[bytes]:
        """Run a command for a run at its epoch and return its reply.

        Raises:
            EpochMismatch: Redis does not hold the run at that epoch.
            DependencyUnavailable: Redis does not answer, or was replaced meanwhile.
        """
        server = await self._redis.server()
        reply = await self.run(name, keys, [epoch_word(epoch, server), *args])
        if self._redis.seen.run_id != server:
            raise DependencyUnavailable("another Redis server answers")
        if reply[0] == b"epoch":
            raise EpochMismatch(name)
        return reply

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> list[bytes]:
        """Run a command as it is.

        Raises:
            DependencyUnavailable: Redis does not answer, or takes no writes.
            RedisFull: Redis is at its memory limit, and the command needs memory.
        """
        script = self._scripts[name]
        reply: list[bytes]
        try:
            async with outages():
                try:
                    reply = await self._redis.evalsha(script.digest, len(keys), *keys, *args)
                except NoScriptError:
                    reply = await self._redis.eval(script.source, len(keys), *keys, *args)
        except DependencyUnavailable as error:
            await self._redis.forget_demoted(error)
            raise
        return reply
