"""A real HTTP tool server and a real MCP server, for tests; as a program: MCP on stdio."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import uvicorn
from mcp.server import MCPServer

from support.waiting import wait_until


class _Tools(BaseHTTPRequestHandler):
    """`double` answers, `refuse` refuses, `wait` holds on, `meet` waits for two more."""

    released = threading.Event()

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        x = call["parameters"].get("x")
        match call["name"]:
            case "double":
                self._say(200, {"result": {"value": 2 * x, "seed": call["seed"]}})
            case "refuse":
                self._say(422, {"error": "x must be even"})
            case "told":
                self._say(200, {"error": "no such city"})
            case "key":
                self._say(200, {"result": self.headers.get("Authorization", "none")})
            case "wait":
                self.released.wait(30.0)
                self._say(200, {"result": "late"})
            case "meet":
                self._say(200, {"result": "met" if _met() else "alone"})
            case "nonsense":
                self._say(200, {"value": 1})
            case _:
                self._say(500, {"error": "boom"})

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _say(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


_MEETING = threading.Barrier(3)


def _met() -> bool:
    """Whether three calls are here at the same time."""
    try:
        _MEETING.wait(timeout=10.0)
    except threading.BrokenBarrierError:
        return False
    return True


@contextmanager
def http_tools() -> Iterator[str]:
    """The server's URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tools)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _Tools.released.clear()
    try:
        yield f"http://127.0.0.1:{server.server_port}/call"
    finally:
        _Tools.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def mcp_server() -> MCPServer:
    """An MCP server with a counter of its own."""
    server = MCPServer("counter")
    count = 0

    @server.tool()
    def add(x: int) -> str:
        """Add to the counter and say it."""
        nonlocal count
        count += x
        return str(count)

    @server.tool()
    def fail() -> str:
        """Raise."""
        raise ValueError("this tool always fails")

    @server.tool()
    async def wait() -> str:
        """Never answer."""
        await asyncio.Event().wait()
        return "late"

    @server.tool()
    def end() -> str:
        """End the server's process in the middle of the call."""
        os._exit(3)

    @server.tool()
    def environment() -> str:
        """Names of the server's variables."""
        return " ".join(sorted(os.environ))

    return server


@asynccontextmanager
async def mcp_over_http() -> AsyncIterator[str]:
    """The same server over streamable HTTP; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = mcp_server().streamable_http_app()
        config = uvicorn.Config(app, log_level="warning", lifespan="on")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))

        async def is_up() -> bool:
            return server.started

        await wait_until(is_up, what="the MCP server listens")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await task


if __name__ == "__main__":
    mcp_server().run("stdio")
