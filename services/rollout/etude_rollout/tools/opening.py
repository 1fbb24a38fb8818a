"""Which environments there are: the built-in kinds, and plug-ins by entry point.

A package offers a kind `x_name` with an entry point of that name in the group `etude.environments`:
a callable without arguments that makes an `EnvironmentOpener`. It is loaded when the first task
names it. One `Environments` a worker; `turns/` opens a session for every rollout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from etude_proto.v1 import FinishReason

from .base import Environment, EnvironmentFailed, EnvironmentOpener, Opening
from .http import HttpOpener
from .mcp import McpOpener
from .sandboxed import Sandbox
from .servers import Servers, read_servers
from .session import Session

GROUP = "etude.environments"
"""Entry-point group of plug-ins."""
PLUGIN = "x_"


class Environments:
    """Opens the environments that tasks name."""

    def __init__(self, servers: Servers | None = None) -> None:
        table = servers or {}
        sandbox = Sandbox()
        self.sandbox = sandbox
        self._openers: dict[str, EnvironmentOpener] = {
            "bfcl_multi_turn": sandbox,
            "calculator": sandbox,
            "http": HttpOpener(table),
            "mcp": McpOpener(table),
        }
        self._loading = asyncio.Lock()

    @classmethod
    def of(cls, servers_file: Path | None) -> Environments:
        """With the tool servers of a file, if there is one.

        Raises:
            ValueError: the file cannot be used.
        """
        return cls(None if servers_file is None else read_servers(servers_file))

    async def open(self, opening: Opening, *, max_chars: int) -> Session:
        """A session in a fresh state; arguments as of `Session.open`.

        Raises:
            EnvironmentFailed: the kind is not known here, or it cannot be opened.
        """
        return await Session.open(self._open, opening, max_chars=max_chars)

    async def close(self) -> None:
        """Close what environments share."""
        for opener in {id(one): one for one in self._openers.values()}.values():
            await opener.close()

    async def _open(self, opening: Opening) -> Environment:
        kind = opening.spec.kind
        if kind not in self._openers:
            async with self._loading:
                if kind not in self._openers:
                    self._openers[kind] = await asyncio.to_thread(_plugin, kind)
        return await self._openers[kind].open(opening)


def _plugin(kind: str) -> EnvironmentOpener:
    """
    Raises:
        EnvironmentFailed: no package brings this kind, or it cannot be loaded.
    """
    found = [one for one in entry_points(group=GROUP) if one.name == kind]
    if not kind.startswith(PLUGIN) or not found:
        raise EnvironmentFailed(FinishReason.ERROR, f"no environment {kind!r} is installed here")
    try:
        make: Callable[[], EnvironmentOpener] = found[0].load()
        return make()
    except Exception as error:  # loading runs code of another package
        raise EnvironmentFailed(
            FinishReason.ERROR, f"environment {kind!r} cannot be loaded: {error}"
        ) from error
