"""A session's protocol: one JSON object a line in, one a line out, over its own socket.

`{"do": "open", "kind", "config", "reference", "opening_s", "timeout_s"}`, then `call`, `request`,
`end` and `judge`. Answers hold `ok`, or `error` with the tool's words. While a call runs the
kernel's alarm is set: one that takes too long ends the process, and the worker sees the socket
close.
"""

from __future__ import annotations

import json
import socket
from typing import Protocol

from .bfcl import BfclServices
from .calculator import Calculator
from .confine import alarm
from .refusing import Refused

Answer = dict[str, object]
"""A JSON object."""


class Inside(Protocol):
    """An environment inside the sandbox."""

    def tools(self) -> list[Answer]:
        """Tools on offer now."""

    def call(self, name: str, parameters: dict[str, object]) -> str:
        """Execute a call. Raises `Refused`."""

    def request(self, number: int) -> list[str]:
        """A user's turn begins; names of the tools that are new."""

    def end(self) -> None:
        """The policy has answered a user's turn."""

    def judge(self) -> dict[str, float]:
        """Components of the environment's own."""


def _open(message: Answer) -> Inside:
    config, reference = message["config"], message["reference"]
    if message["kind"] == "calculator":
        return Calculator()
    assert isinstance(config, dict)
    return BfclServices(config, reference if isinstance(reference, dict) else None)


def _answer(inside: Inside, message: Answer) -> Answer:
    match message["do"]:
        case "call":
            parameters = message["parameters"]
            assert isinstance(parameters, dict)
            try:
                return {"ok": inside.call(str(message["name"]), parameters)}
            except Refused as refusal:
                return {"error": str(refusal)}
        case "request":
            number = message["number"]
            assert isinstance(number, int)
            return {"ok": inside.request(number), "tools": inside.tools()}
        case "end":
            inside.end()
            return {"ok": True}
        case _:
            return {"ok": inside.judge()}


def serve(connection: socket.socket) -> None:
    """Answer until the worker closes the socket."""
    inside: Inside | None = None
    timeout_s = 0.0
    lines = connection.makefile("rb")
    for line in lines:
        message = json.loads(line)
        alarm(float(message["opening_s"]) if inside is None else timeout_s)
        if inside is None:
            timeout_s = float(message["timeout_s"])
            inside = _open(message)
            answer: Answer = {"ok": True, "tools": inside.tools()}
        else:
            answer = _answer(inside, message)
        alarm(0.0)
        connection.sendall(json.dumps(answer, default=str).encode() + b"\n")
