"""Bounds of the small API: the size of a body, taken before it is read."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem_response

MAX_BODY_BYTES = 1 << 20


class BodyLimit:
    """ASGI middleware that refuses bodies over `MAX_BODY_BYTES`, declared or chunked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        is_over = not declared.isdigit() or int(declared) > MAX_BODY_BYTES
        messages: list[Message] = []
        num_bytes = 0
        # The whole body is taken first: it is small, and the app turns what is raised while it
        # reads one into a refusal of its own.
        while not is_over:
            message = await receive()
            messages.append(message)
            num_bytes += len(message.get("body", b""))
            is_over = num_bytes > MAX_BODY_BYTES
            if message["type"] != "http.request" or not message.get("more_body", False):
                break
        if is_over:
            detail = f"the body is larger than {MAX_BODY_BYTES} bytes"
            response = problem_response(413, detail, instance=scope["path"])
            await response(scope, receive, send)
            return
        taken = iter(messages)

        async def replay() -> Message:
            return next(taken, None) or await receive()

        await self._app(scope, replay, send)
