"""A fault proxy between a sampler and one of its servers: loses a request, a reply, or everything.

It listens on a Unix socket and forwards bytes to the server's. A fault is armed with a word, say
the digest of a script or `COMMIT`, and strikes once, at the first request that contains it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from etude_sampler.embedded import RunningServer
from etude_sampler.store.redis.scripts import load

Loss = Literal["request", "reply"]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def digest(script: str) -> bytes:
    """The word by which a request names a script."""
    return load(script).digest.encode()


@dataclass(slots=True)
class FaultProxy:
    """A running proxy."""

    upstream: Path
    socket: Path
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the armed fault has struck."""
    _word: bytes = b""
    _fault: Loss | Literal["hold"] = "request"
    _after: bytes = b""
    _armed: int = 0
    """Faults armed so far; what was said before does not count as `after`."""
    _let_go: asyncio.Event = field(default_factory=asyncio.Event)
    _down: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def lose(self, word: bytes, what: Loss, *, after: bytes = b"") -> None:
        """Break the connection before the next such request arrives, or before its reply does.

        With `after`, only on a connection that has asked for something with that word before.
        """
        self._word, self._fault, self._after = word, what, after
        self._armed += 1
        self.struck.clear()

    def hold(self, word: bytes, *, after: bytes = b"") -> None:
        """Keep the next such request, and its caller waiting, until `let_go`; `after`: `lose`."""
        self._word, self._fault, self._after = word, "hold", after
        self._armed += 1
        self.struck.clear()
        self._let_go.clear()

    def let_go(self) -> None:
        """Forward what is held."""
        self._let_go.set()

    def fail(self) -> None:
        """Break all connections and take no new ones."""
        self._down = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """Forward again."""
        self._down = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            if not self._down:
                await self._forward((reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, client: Pair) -> None:
        server = await asyncio.open_unix_connection(self.upstream)
        self._open.add(server[1])
        lost = asyncio.Event()
        ways = [
            asyncio.create_task(self._requests(client, server, lost)),
            asyncio.create_task(self._replies(client, server, lost)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(server[1])
            server[1].transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self, client: Pair, server: Pair, lost: asyncio.Event) -> None:
        armed, asked = 0, False
        while data := await client[0].read(1 << 16):
            if armed != self._armed:
                armed, asked = self._armed, not self._after
            asked = asked or self._after in data
            if self._word and self._word in data and asked:
                self._word = b""
                self.struck.set()
                if self._fault == "hold":
                    await self._let_go.wait()
                if self._fault == "request":
                    return
                if self._fault == "reply":
                    lost.set()
            server[1].write(data)
            await server[1].drain()

    async def _replies(self, client: Pair, server: Pair, lost: asyncio.Event) -> None:
        while data := await server[0].read(1 << 16):
            if lost.is_set():
                return
            client[1].write(data)
            await client[1].drain()

    async def aclose(self) -> None:
        """End every connection."""
        self.fail()
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def _proxy(upstream: Path, socket: Path) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(upstream, socket)
    server = await asyncio.start_unix_server(proxy._serve, path=str(socket))
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()


@asynccontextmanager
async def redis_proxy(server: RunningServer, folder: Path) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A proxy of a Redis or Valkey server, and its URL."""
    socket = folder / "redis.sock"
    async with _proxy(Path(unquote(server.url.removeprefix("unix://"))), socket) as proxy:
        yield proxy, f"unix://{quote(str(socket))}"


@asynccontextmanager
async def postgres_proxy(url: str, folder: Path) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A proxy of the PostgreSQL server of a URL, and the same URL through it."""
    head, _, tail = url.partition("?host=")
    host, _, port = tail.partition("&port=")
    name = f".s.PGSQL.{port}"
    async with _proxy(Path(unquote(host)) / name, folder / name) as proxy:
        yield proxy, f"{head}?host={quote(str(folder), safe='')}&port={port}"
