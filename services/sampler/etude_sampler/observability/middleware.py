"""The outermost layer: request ids in and out, timing, one access event a request."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable

from opentelemetry import trace
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etude_client.json_logs import about

from .metrics import Metrics

_LOG = logging.getLogger("etude.access")
_ID = re.compile(rb"^[A-Za-z0-9._-]{1,64}$")
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
)
"""What every answer carries, unless its route says otherwise."""
_GONE = 499
"""Status in the log of a caller that left before its body was read (as nginx has it)."""


class Observe:
    """ASGI middleware; costs no task and no extra await per message."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        on_crash: Callable[[Scope, BaseException], Response],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._on_crash = on_crash
        """The answer to a request that ended in an error, which it logs."""

    @staticmethod
    def _headers(scope: Scope, message: Message, request_id: bytes) -> list[tuple[bytes, bytes]]:
        """The answer's headers, with those that every answer has and it lacks."""
        given: list[tuple[bytes, bytes]] = list(message["headers"])
        names = {name.lower() for name, _ in given}
        more = [header for header in _SAFE if header[0] not in names]
        counted = scope.get("answer_headers", ())
        return [*given, (b"x-request-id", request_id), *counted, *more]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if _ID.match(given) else secrets.token_hex(8).encode()
        scope["request_id"] = request_id.decode()
        started = time.perf_counter()
        status, is_answered = 500, False

        async def observed(message: Message) -> None:
            nonlocal status, is_answered
            if message["type"] == "http.response.start":
                status, is_answered = message["status"], True
                message["headers"] = self._headers(scope, message, request_id)
            await send(message)

        try:
            with about(request_id=scope["request_id"]):
                await self._app(scope, receive, observed)
        except (Exception, asyncio.CancelledError) as error:
            if is_answered:
                raise
            await self._on_crash(scope, error)(scope, receive, observed)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            took = time.perf_counter() - started
            operation = getattr(scope.get("route"), "operation_id", None) or "other"
            self._metrics.requests.labels(operation, str(status)).inc()
            self._metrics.seconds.labels(operation).observe(took)
            named = scope.get("path_params", {})
            ids = {name: named[f"{name}_id"] for name in ("run", "lease") if f"{name}_id" in named}
            if "fastapi.telemetry" in scope:
                said = {**ids, "request_id": scope["request_id"]}
                span = trace.get_current_span()
                span.set_attributes({f"etude.{name}": value for name, value in said.items()})
            level = logging.ERROR if status >= 500 else logging.DEBUG
            if status == _GONE:
                level = logging.INFO
            if _LOG.isEnabledFor(level):
                _LOG.log(
                    level,
                    "request.done",
                    extra={
                        "operation": operation,
                        "status": status,
                        "ms": round(took * 1000, 2),
                        "request_id": scope["request_id"],
                        **ids,
                    },
                )
