"""Tools of MCP servers, over stdio or streamable HTTP (the `mcp` package does the protocol).

Every rollout has a session of its own: a server that keeps state keeps it per session. A branch is
brought to its state by the same calls again. What a tool reports as an error is the observation; a
server that ends, hangs or breaks the protocol is an infrastructure failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from etude_proto.v1 import FinishReason, McpEnvironment, Message, Tool

from .base import EnvironmentFailed, Opening, ToolCall, ToolError
from .servers import McpServer, Servers

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult

_log = logging.getLogger(__name__)

CLOSE_S = 5.0
"""How long a session may take to end before it is cancelled."""
_OF_THE_CALL = frozenset({-32602, -32601, -32003})
"""JSON-RPC codes that speak about the call: bad parameters, no such tool, input refused."""


class McpTools:
    """An environment over one MCP session, which lives in a task of its own."""

    runs_parallel = True

    def __init__(self, server: McpServer, opening: Opening) -> None:
        self._server = server
        self._opening = opening
        self._tools: list[Tool] = []
        self._client: Client | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        # A session must be entered and left by the same task.
        self._task = asyncio.create_task(self._live(), name="mcp session")

    @property
    def tools(self) -> Sequence[Tool]:
        """The server's tools; only those that the task names, if it names any."""
        named = {tool.name for tool in self._opening.tools}
        return [tool for tool in self._tools if not named or tool.name in named]

    async def begin(self) -> None:
        """Wait for the session and its tools. Raises `EnvironmentFailed`."""
        limit_s = self._opening.opening_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.shield(self._opened)
        except TimeoutError as error:
            raise EnvironmentFailed(
                FinishReason.TIMEOUT, f"no MCP session within {limit_s:g} s"
            ) from error

    async def call(self, call: ToolCall) -> str:
        """Call a tool; see `Environment.call`."""
        from mcp import MCPError

        if call.name not in {tool.name for tool in self.tools}:
            raise ToolError(f"there is no tool {call.name!r}")
        if self._client is None or self._task.done():
            raise EnvironmentFailed(FinishReason.ERROR, "the MCP session has ended")
        limit_s = self._opening.call_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                result = await self._client.call_tool(call.name, dict(call.parameters))
        except TimeoutError as error:
            raise EnvironmentFailed(
                FinishReason.TIMEOUT, f"the MCP server did not answer within {limit_s:g} s"
            ) from error
        except MCPError as error:
            if error.error.code in _OF_THE_CALL:
                raise ToolError(error.error.message) from error
            raise EnvironmentFailed(FinishReason.ERROR, f"MCP: {error.error.message}") from error
        except Exception as error:  # transports raise what they like; the call has no answer
            raise EnvironmentFailed(
                FinishReason.ERROR, f"MCP: {type(error).__name__}: {error}"
            ) from error
        text = _text(result)
        if result.is_error:
            raise ToolError(text)
        return text

    async def next_request(self, number: int) -> list[Message]:
        """Nothing is new."""
        return []

    async def end_request(self) -> None:
        """Nothing to keep."""

    async def judge(self) -> Mapping[str, float]:
        """A server does not judge."""
        return {}

    async def close(self) -> None:
        """End the session, and its server if it was started for it."""
        self._closing.set()
        _, pending = await asyncio.wait({self._task}, timeout=CLOSE_S)
        if pending:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _live(self) -> None:
        """Hold the session until it is to be closed."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(self._connection(stack))
                self._tools = await _all_tools(client)
                self._client = client
                if not self._opened.done():
                    self._opened.set_result(None)
                await self._closing.wait()
        except Exception as error:  # the library's task groups raise groups of anything
            if not self._opened.done():
                failed = EnvironmentFailed(FinishReason.ERROR, f"no MCP session: {_first(error)}")
                self._opened.set_exception(failed)
                self._opened.exception()  # whoever waits hears it; nobody else needs to
            else:
                _log.warning("mcp.session_ended", extra={"detail": _first(error)})
        finally:
            self._client = None

    def _connection(self, stack: contextlib.AsyncExitStack) -> Client:
        from mcp import Client, StdioServerParameters

        # Calls have limits of their own (`call`); this is for what begins the session.
        server, limit_s = self._server, self._opening.opening_timeout_s
        if server.url is None:
            started = StdioServerParameters(
                command=server.command[0],
                args=server.command[1:],
                env={key: value.get_secret_value() for key, value in server.env.items()} or None,
            )
            return Client(started, read_timeout_seconds=limit_s)
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        headers = {key: value.get_secret_value() for key, value in server.headers.items()}
        http = httpx2.AsyncClient(headers=headers, timeout=limit_s, trust_env=server.use_proxy)
        stack.push_async_callback(http.aclose)
        transport = streamable_http_client(server.url, http_client=http)
        return Client(transport, read_timeout_seconds=limit_s)


class McpOpener:
    """Opens sessions with the MCP servers of the worker's table."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def open(self, opening: Opening) -> McpTools:
        """See `EnvironmentOpener.open`."""
        assert isinstance(opening.spec, McpEnvironment)
        name = opening.spec.config.server
        server = self._servers.get(name)
        if not isinstance(server, McpServer):
            raise EnvironmentFailed(FinishReason.ERROR, f"this worker knows no MCP server {name!r}")
        session = McpTools(server, opening)
        try:
            await session.begin()
        except BaseException:
            await session.close()
            raise
        return session

    async def close(self) -> None:
        """Sessions are closed by those who opened them."""


async def _all_tools(client: Client) -> list[Tool]:
    found: list[Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += [
            Tool(name=one.name, description=one.description or "", parameters=one.input_schema)
            for one in page.tools
        ]
        cursor = page.next_cursor
        if cursor is None:
            return found


def _text(result: CallToolResult) -> str:
    """The texts of an answer, or its structure as JSON; other kinds of content by their names."""
    parts = [one.text if one.type == "text" else f"[{one.type}]" for one in result.content]
    if parts or result.structured_content is None:
        return "\n".join(parts)
    return json.dumps(result.structured_content, ensure_ascii=False)


def _first(error: BaseException) -> str:
    """The first fault in a group of faults."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
