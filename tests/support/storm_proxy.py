"""A link with weather: a proxy that cuts, delays, swallows, half-closes or breaks off in a message.

Between a replica and its servers (Unix sockets) and between clients and a replica (TCP). It
forwards bytes and knows nothing of what they mean; `storm_gremlin` makes the weather.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .waiting import pass_time

Address = Path | int
"""A Unix socket, or a port of 127.0.0.1."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_CHUNK = 1 << 14


@dataclass(slots=True, eq=False)
class Connection:
    """One forwarded connection: what it still may carry."""

    client: Streams
    server: Streams
    budget: dict[str, int] = field(default_factory=dict)
    """Bytes until it breaks, by direction (`up` to the server, `down` to the client)."""
    ended: set[str] = field(default_factory=set)
    """Directions that were closed; what is sent there is lost."""

    def abort(self) -> None:
        """Break both sides at once, as a reset does."""
        for _, writer in (self.client, self.server):
            writer.transport.abort()

    def half_close(self, direction: str) -> None:
        """End one direction in order; the other goes on."""
        _, writer = self.server if direction == "up" else self.client
        self.ended.add(direction)
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


@dataclass(slots=True, eq=False)
class Link:
    """A running proxy."""

    name: str
    upstream: Address
    delay_s: float = 0.0
    """Added to every piece of data."""
    connections: set[Connection] = field(default_factory=set)
    _clear: asyncio.Event = field(default_factory=asyncio.Event)
    _refuses: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._clear.set()

    def some(self, rng: random.Random, share: float) -> list[Connection]:
        """A random share of the open connections, at least one if there is one."""
        open_now = sorted(self.connections, key=id)
        num = max(1, round(share * len(open_now)))
        return rng.sample(open_now, min(num, len(open_now)))

    def swallow(self) -> None:
        """Carry nothing, and say nothing, until `clear`."""
        self._clear.clear()

    def refuse(self) -> None:
        """Break every connection and take no new one until `clear`."""
        self._refuses = True
        for connection in list(self.connections):
            connection.abort()

    def clear(self) -> None:
        """Carry again what was held up, without delay."""
        self._clear.set()
        self._refuses = False
        self.delay_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._clear.wait()
            if self._refuses:
                raise ConnectionRefusedError
            server = await self._connect()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            self._tasks.discard(task)
            return
        connection = Connection((reader, writer), server)
        self.connections.add(connection)
        ways = [
            asyncio.create_task(self._carry(connection, reader, server[1], "up")),
            asyncio.create_task(self._carry(connection, server[0], writer, "down")),
        ]
        try:
            await asyncio.gather(*ways)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for way in ways:
                way.cancel()
            self.connections.discard(connection)
            connection.abort()
            self._tasks.discard(task)

    async def _connect(self) -> Streams:
        if isinstance(self.upstream, Path):
            return await asyncio.open_unix_connection(self.upstream)
        return await asyncio.open_connection("127.0.0.1", self.upstream)

    async def _carry(
        self,
        connection: Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: str,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self.delay_s:
                await pass_time(self.delay_s)
            await self._clear.wait()
            if direction in connection.ended:
                continue
            left = connection.budget.get(direction)
            if left is not None:
                connection.budget[direction] = left - len(data)
                if left < len(data):
                    writer.write(data[:left])
                    await writer.drain()
                    connection.abort()
                    return
            writer.write(data)
            await writer.drain()
        connection.half_close(direction)

    async def aclose(self) -> None:
        """End every connection."""
        for connection in list(self.connections):
            connection.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def link(name: str, upstream: Address, *, listen: Address) -> AsyncIterator[Link]:
    """A link that listens, until the end."""
    made = Link(name, upstream)
    if isinstance(listen, Path):
        server = await asyncio.start_unix_server(made.serve, path=str(listen))
    else:
        server = await asyncio.start_server(made.serve, "127.0.0.1", listen)
    try:
        yield made
    finally:
        server.close()
        await made.aclose()
