"""HTTP/1.1 with bounded heads, and with polls that end when the server stops.

`etude serve` hands this class to uvicorn, whose own protocol takes a head of any size, before any
key, and lets long polls wait until they are cancelled. What is refused here never becomes a
request, so it is answered without an id, but as a problem document all the same.
"""

from __future__ import annotations

import http

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from etude_proto.v1 import Problem

from ..errors import BadRequest
from .problems import MEDIA_TYPE

MAX_HEAD_BYTES = 64 << 10
"""Request line and headers together (our choice: keys, traces and cookies are far below)."""
STOPPING = "stopping"
"""Name in the lifespan's state of what is called, without arguments, when the server stops."""


class BoundedHeads(HttpToolsProtocol):
    """Refuses a head over `MAX_HEAD_BYTES`, also before it is complete."""

    _is_in_head = False
    _num_head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came; give up on a head that grows too long."""
        self._num_head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._num_head_bytes > MAX_HEAD_BYTES:
            self._is_in_head = False
            self.send_400_response("the head of the request is too large")

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head, self._num_head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head ends."""
        self._is_in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too large")
        super().on_headers_complete()

    def shutdown(self) -> None:
        """The server stops and waits for its requests: those that only wait answer now."""
        stopping = self.app_state.get(STOPPING)
        if stopping is not None:
            stopping()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, and close."""
        problem = Problem(
            type=f"https://etude.dev/problems/{BadRequest.code}",
            title=BadRequest.title,
            status=BadRequest.status,
            detail=msg,
            instance="",
            code=BadRequest.code,
            request_id="",
            retryable=False,
        )
        body = problem.model_dump_json().encode()
        head = (
            f"HTTP/1.1 400 {http.HTTPStatus(400).phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
