"""A real HTTP server that follows a script of answers and failures, for tests of the client.

uvicorn on a port of its own, in a thread. Each request takes the next step of its path's script;
the requests are kept as they came.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from etude_proto.v1 import Problem, ProblemCode
from support.waiting import wait_for

METHODS = ["GET", "POST", "PATCH"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    """Still percent-encoded."""
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    connection: tuple[str, int]
    """Address of the client's end: equal for requests of one connection."""

    @property
    def key(self) -> str | None:
        """The idempotency key."""
        return self.headers.get("idempotency-key")

    def text(self) -> bytes:
        """The body, unpacked."""
        packed = self.headers.get("content-encoding") == "gzip"
        return gzip.decompress(self.body) if packed else self.body


@dataclass(frozen=True, slots=True)
class Reply:
    """A step: answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Drop:
    """A step: take the request and reset the connection, without a byte of an answer."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A step: break the connection in the middle of the answer's body."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A step: take the request and stay silent until the client gives up."""


Step = Reply | Drop | Cut | Hold | Callable[[Seen], Reply]


def problem(code: ProblemCode, status: int, *, retryable: bool = False, **headers: str) -> Reply:
    """A refusal as the sampler words it; `retry_after="1"` becomes a header."""
    document = Problem(
        type="about:blank",
        title=code.replace("_", " "),
        status=status,
        detail=f"scripted {code}",
        instance="",
        code=code,
        request_id="req_scripted",
        retryable=retryable,
    )
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    body = document.model_dump_json().encode()
    return Reply(status, body, names, content_type="application/problem+json")


class ScriptedServer:
    """The running server; `script` it, call it, then read `seen`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self._steps: dict[str, list[Step]] = defaultdict(list)

    def script(self, path: str, *steps: Step) -> None:
        """Append steps for a path; the last one is repeated for ever."""
        self._steps[path].extend(steps)

    def clear(self) -> None:
        """Forget scripts and requests, for the next test."""
        self.seen.clear()
        self._steps.clear()

    def keys(self) -> list[str | None]:
        """Idempotency keys in order of arrival."""
        return [request.key for request in self.seen]

    def next_step(self, path: str) -> Step:
        """The step that is due; an unscripted path is an error of the test (501)."""
        steps = self._steps[path]
        if not steps:
            return Reply(501, json.dumps({"unscripted": path}).encode())
        return steps.pop(0) if len(steps) > 1 else steps[0]

    async def answer(self, request: Request) -> Response:
        """The one endpoint."""
        body = await request.body()
        client = request.client
        assert client is not None
        seen = Seen(
            request.method,
            request.scope["raw_path"].decode(),
            dict(request.query_params),
            request.headers,
            body,
            (client.host, client.port),
        )
        self.seen.append(seen)
        step = self.next_step(seen.path)
        if callable(step):
            step = step(seen)
        if isinstance(step, Reply):
            return Response(
                step.body, step.status, headers=dict(step.headers), media_type=step.content_type
            )
        return _Broken(step)


class _Broken(Response):
    """The failures that no proper response can express."""

    def __init__(self, step: Drop | Cut | Hold) -> None:
        super().__init__()
        self._step = step

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(self._step, Hold):
            while (await receive())["type"] != "http.disconnect":
                pass
        if isinstance(self._step, Cut):
            length = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
        scope["reset"]()


def _with_reset(app: ASGIApp) -> ASGIApp:
    """Gives the app a way to reset its connection: uvicorn's transport, behind `send`."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__", None)
        assert cycle is not None, "not uvicorn's send"
        await app({**scope, "reset": cycle.transport.abort}, receive, send)

    return wrapped


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Run a server for the length of the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = ScriptedServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        app = Starlette(routes=[Route("/{path:path}", server.answer, methods=METHODS)])
        config = uvicorn.Config(
            _with_reset(app),
            log_config=None,
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        runner = uvicorn.Server(config)
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            wait_for(lambda: runner.started, what="the scripted server listens")
            yield server
        finally:
            runner.should_exit = True
            thread.join(timeout=10.0)
            assert not thread.is_alive()
