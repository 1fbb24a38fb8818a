"""Tools behind plain HTTP: every call is one POST of JSON.

The body is `{"name", "parameters", "seed"}`; the answer is JSON, `{"result": ...}` or
`{"error": "text"}`. Status 400, 404, 409 and 422 refuse the call: the error's text, or the body, is
what the policy reads. Anything else, silence and delay are failures of the infrastructure.
The server keeps no state for a rollout: calls may be repeated, and run at the same time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence

import httpx
from pydantic import JsonValue

from etude_proto.v1 import FinishReason, HttpEnvironment, Message, Tool

from .base import EnvironmentFailed, Opening, ToolCall, ToolError
from .servers import HttpServer, Servers

REFUSALS = frozenset({400, 404, 409, 422})
"""Status codes that speak about the call, not about the server."""
MAX_ANSWER_BYTES = 4 << 20


class HttpTools:
    """An environment over one HTTP server."""

    runs_parallel = True

    def __init__(self, client: httpx.AsyncClient, server: HttpServer, opening: Opening) -> None:
        self._client = client
        self._server = server
        self._opening = opening

    @property
    def tools(self) -> Sequence[Tool]:
        """The server's tools, or those that came with the task."""
        return self._server.tools or self._opening.tools

    async def call(self, call: ToolCall) -> str:
        """POST a call; see `Environment.call`."""
        if call.name not in {tool.name for tool in self.tools}:
            raise ToolError(f"there is no tool {call.name!r}")
        body: dict[str, JsonValue] = {
            "name": call.name,
            "parameters": dict(call.parameters),
            "seed": self._opening.seed,
        }
        try:
            async with asyncio.timeout(self._opening.call_timeout_s):
                status, content = await self._post(body)
        except TimeoutError as error:
            limit_s = self._opening.call_timeout_s
            detail = f"{self._server.url} did not answer within {limit_s:g} s"
            raise EnvironmentFailed(FinishReason.TIMEOUT, detail) from error
        except httpx.HTTPError as error:
            detail = f"{self._server.url}: {type(error).__name__}: {error}".removesuffix(": ")
            raise EnvironmentFailed(FinishReason.ERROR, detail) from error
        return self._read(status, content)

    async def _post(self, body: dict[str, JsonValue]) -> tuple[int, bytes]:
        content = b""
        async with self._client.stream("POST", self._server.url, json=body) as response:
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MAX_ANSWER_BYTES:
                    raise EnvironmentFailed(
                        FinishReason.ERROR, f"{self._server.url} answered too much"
                    )
        return response.status_code, content

    def _read(self, status: int, content: bytes) -> str:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if status in REFUSALS:
            told = answer.get("error") if isinstance(answer, dict) else None
            raise ToolError(_text(told) if told else content.decode(errors="replace") or "refused")
        if not 200 <= status < 300 or not isinstance(answer, dict):
            raise EnvironmentFailed(
                FinishReason.ERROR, f"{self._server.url} answered {status} {content[:200]!r}"
            )
        if answer.get("error"):
            raise ToolError(_text(answer["error"]))
        if "result" not in answer:
            raise EnvironmentFailed(
                FinishReason.ERROR, f"{self._server.url} answered neither result nor error"
            )
        return _text(answer["result"])

    async def next_request(self, number: int) -> list[Message]:
        """Nothing is new."""
        return []

    async def end_request(self) -> None:
        """Nothing to keep."""

    async def judge(self) -> Mapping[str, float]:
        """A server does not judge."""
        return {}

    async def close(self) -> None:
        """The connections are shared."""


class HttpOpener:
    """Opens environments over the HTTP servers of the worker's table."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def open(self, opening: Opening) -> HttpTools:
        """See `EnvironmentOpener.open`."""
        assert isinstance(opening.spec, HttpEnvironment)
        name = opening.spec.config.server
        server = self._servers.get(name)
        if not isinstance(server, HttpServer):
            raise EnvironmentFailed(
                FinishReason.ERROR, f"this worker knows no HTTP tool server {name!r}"
            )
        if name not in self._clients:
            headers = {key: value.get_secret_value() for key, value in server.headers.items()}
            self._clients[name] = httpx.AsyncClient(
                headers=headers, timeout=None, trust_env=server.use_proxy
            )
        return HttpTools(self._clients[name], server, opening)

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
