"""A sampler behind a real socket in this process, and a gate that can hold calls on their way.

For tests of other services' processes: they reach the sampler by URL, and a held call gives a test
the time to kill or overtake its caller at exactly that point. All of it is plain HTTP: loading
certificates for each call would take longer than the call.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from etude_sampler.app import create_app
from etude_sampler.settings import Settings
from support.waiting import wait_for, wait_until


@contextmanager
def serving(app: ASGIApp, *, port: int = 0) -> Iterator[str]:
    """Serve an app from a thread; yields its URL. A free port, or the given one."""
    listener = socket.create_server(("127.0.0.1", port))
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, what="the server has started", timeout_s=30)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()


@contextmanager
def live_sampler(database_url: str, redis_url: str, *, port: int = 0) -> Iterator[str]:
    """A sampler on real servers; yields its URL when it is ready."""
    settings = Settings.model_validate({"database_url": database_url, "redis_url": redis_url})
    with serving(create_app(settings), port=port) as url:
        wait_for(
            lambda: httpx.get(f"{url}/readyz", verify=False).status_code == 200,
            what="the sampler is ready",
            timeout_s=30,
        )
        yield url


class _Hold:
    """One request of a test to hold calls."""

    def __init__(self, pattern: str, at: Literal["request", "reply"]) -> None:
        self.pattern = re.compile(pattern)
        self.at = at
        self.forwards = True
        self.ends = threading.Event()
        self.num_held = 0

    async def wait(self) -> None:
        """Return when the test lets go."""
        self.num_held += 1

        async def is_over() -> bool:
            return self.ends.is_set()

        await wait_until(is_over, what="the gate is opened", timeout_s=150.0)


class Gate:
    """Forwards every call to a target, but holds those that match a pattern."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._hold: _Hold | None = None
        self._is_closed = False
        self.is_away = False
        """While set, every call is answered 502, as by a proxy whose service is gone."""

    def hold(self, pattern: str, *, at: Literal["request", "reply"] = "request") -> None:
        """Hold calls whose `METHOD /path` matches, before or after the target gets them."""
        self._hold = _Hold(pattern, at)
        self._is_closed = True

    def open(self) -> None:
        """Let the held calls go on, and hold no more."""
        self._is_closed = False
        if self._hold is not None:
            self._hold.ends.set()

    def open_others(self) -> None:
        """Keep what is held, and hold no more."""
        self._is_closed = False

    def drop(self) -> None:
        """Answer the held calls 503, those held as requests without passing them on, and hold no
        more: a held reply is lost."""
        if self._hold is not None:
            self._hold.forwards = False
        self.open()

    def wait_held(self, *, timeout_s: float = 60.0) -> None:
        """Return when a call is held."""
        hold = self._hold
        assert hold is not None
        wait_for(lambda: hold.num_held > 0, what="a call is held", timeout_s=timeout_s)

    def app(self) -> Starlette:
        """The proxy as an app, for `serving`."""
        methods = ["GET", "POST", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self._forward, methods=methods)])

    async def _forward(self, request: Request) -> Response:
        if self.is_away:
            return Response(status_code=502)
        path, hold = request.url.path, self._hold
        if not self._is_closed or not (
            hold is not None and hold.pattern.fullmatch(f"{request.method} {path}")
        ):
            hold = None
        body = await request.body()
        if hold is not None and hold.at == "request":
            await hold.wait()
            if not hold.forwards:
                return Response(status_code=503, headers={"retry-after": "1"})
        skip = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
        headers = [(k, v) for k, v in request.headers.items() if k not in skip]
        url = self._target + path + (f"?{request.url.query}" if request.url.query else "")
        async with httpx.AsyncClient(timeout=60.0, verify=False) as http:
            answer = await http.request(request.method, url, content=body, headers=headers)
        if hold is not None and hold.at == "reply":
            await hold.wait()
            if not hold.forwards:
                return Response(status_code=503, headers={"retry-after": "0"})
        kept = {k: v for k, v in answer.headers.items() if k not in ("content-length", "date")}
        return Response(answer.content, answer.status_code, headers=kept)


@contextmanager
def gated(target: str) -> Iterator[tuple[str, Gate]]:
    """A gate before a target; yields its URL and the gate."""
    gate = Gate(target)
    with serving(gate.app()) as url:
        try:
            yield url, gate
        finally:
            gate.open()
