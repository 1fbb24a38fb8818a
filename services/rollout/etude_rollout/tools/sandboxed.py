"""Environments in child processes: the outside of `sandbox/`.

One nursery a worker, started when the first environment is opened; a session is a process forked
from it, with a socket of its own. A session that dies or does not answer ends its rollout as an
infrastructure failure, and no other. `opening.py` makes the opener.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from etude_proto.v1 import FinishReason, Message, Tool

from ..tool_texts import tools_text
from .base import EnvironmentFailed, Opening, ToolCall, ToolError

_log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
ANSWER_GRACE_S = 2.0
"""How much longer than a call's limit its answer is waited for: the kernel's alarm comes first."""
MAX_LINE = 16 << 20
NEW_TOOLS = "From now on these tools are on offer too."
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Variables that the sandbox gets: no key, no address."""


class SandboxedEnvironment:
    """An environment in a session of the nursery."""

    runs_parallel = False

    def __init__(self, opening: Opening, streams: _Streams) -> None:
        self._opening = opening
        self._streams = streams
        self._tools: list[Tool] = []
        self.runs_parallel = opening.spec.kind == "calculator"
        self._turn = asyncio.Lock()

    @property
    def tools(self) -> Sequence[Tool]:
        """Tools on offer now."""
        return self._tools

    async def begin(self) -> None:
        """Open the state inside. Raises `EnvironmentFailed`."""
        spec, reference = self._opening.spec, self._opening.reference
        config = spec.config if isinstance(spec.config, dict) else spec.config.model_dump()
        await self._ask(
            {
                "do": "open",
                "kind": spec.kind,
                "config": config,
                "reference": None if reference is None else reference.model_dump(mode="json"),
                "opening_s": self._opening.opening_timeout_s,
                "timeout_s": self._opening.call_timeout_s,
            }
        )

    async def call(self, call: ToolCall) -> str:
        """Execute a call; see `Environment.call`."""
        answer = await self._ask(
            {"do": "call", "name": call.name, "parameters": dict(call.parameters)}
        )
        if "error" in answer:
            raise ToolError(str(answer["error"]))
        return str(answer["ok"])

    async def next_request(self, number: int) -> list[Message]:
        """A user's turn begins; tools that are new are shown in it."""
        new = (await self._ask({"do": "request", "number": number}))["ok"]
        shown = [tool for tool in self._tools if isinstance(new, list) and tool.name in new]
        if not shown:
            return []
        return [Message(role="user", content=f"{NEW_TOOLS}\n{tools_text(shown)}")]

    async def end_request(self) -> None:
        """The policy has answered a user's turn."""
        await self._ask({"do": "end"})

    async def judge(self) -> Mapping[str, float]:
        """What the services themselves say about their state."""
        told = (await self._ask({"do": "judge"}))["ok"]
        assert isinstance(told, dict)
        return {name: float(str(value)) for name, value in told.items()}

    async def close(self) -> None:
        """End the session's process."""
        await self._streams.close()

    async def _ask(self, message: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        is_opening = message["do"] == "open"
        opening = self._opening
        limit_s = opening.opening_timeout_s if is_opening else opening.call_timeout_s
        async with self._turn:
            started_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(limit_s + ANSWER_GRACE_S):
                    answer = await self._streams.ask(json.dumps(message).encode() + b"\n")
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                took_s = asyncio.get_running_loop().time() - started_s
                if took_s >= limit_s:
                    raise EnvironmentFailed(
                        FinishReason.TIMEOUT, f"the sandbox did not answer within {limit_s:g} s"
                    ) from error
                raise EnvironmentFailed(
                    FinishReason.ERROR, "the sandbox's process has ended"
                ) from error
        if isinstance(listed := answer.get("tools"), list):
            self._tools = [Tool.model_validate(one) for one in listed]
        return answer


class _Streams:
    """A session's socket as asyncio streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, line: bytes) -> dict[str, JsonValue]:
        """One line out, one in.

        Raises:
            OSError, EOFError, ValueError: no answer, or none that can be read.
        """
        self._writer.write(line)
        await self._writer.drain()
        answer = await self._reader.readline()
        if not answer.endswith(b"\n"):
            raise EOFError
        found: dict[str, JsonValue] = json.loads(answer)
        return found

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Sandbox:
    """Opens environments in child processes; the nursery starts with the first one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()
        self.facts: dict[str, bool] = {}
        """`network`, `files`: whether sessions still reach them; `services`: BFCL's are there."""

    @property
    def process_id(self) -> int | None:
        """Of the nursery; None before the first environment."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the nursery lives."""
        return self._process is not None and self._process.poll() is None

    async def open(self, opening: Opening) -> SandboxedEnvironment:
        """A session with a fresh state; see `EnvironmentOpener.open`."""
        async with self._starting:
            if not self.is_running:
                await self._start()
        if opening.spec.kind == "bfcl_multi_turn" and not self.facts["services"]:
            raise EnvironmentFailed(FinishReason.ERROR, "bfcl-eval is not installed here")
        assert self._control is not None
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [b"s"], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise EnvironmentFailed(FinishReason.ERROR, "the sandbox cannot fork") from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE)
        environment = SandboxedEnvironment(opening, _Streams(reader, writer))
        try:
            await environment.begin()
        except BaseException:
            await environment.close()
            raise
        return environment

    async def close(self) -> None:
        """End the nursery and, with it, every session."""
        await asyncio.to_thread(self._stop)

    async def _start(self) -> None:
        await asyncio.to_thread(self._stop)
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        handle = theirs.fileno()
        # Not from a thread: the nursery ends when the thread that started it does.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "etude_rollout.tools.sandbox.nursery", str(handle)],
            pass_fds=(handle,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()
        self._control = ours
        try:
            self.facts = await asyncio.to_thread(_read_facts, ours)
        except (OSError, ValueError) as error:
            raise EnvironmentFailed(
                FinishReason.ERROR, f"the sandbox does not start: {error}"
            ) from error
        _log.info("sandbox.ready", extra=self.facts)

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _read_facts(control: socket.socket) -> dict[str, bool]:
    """
    Raises:
        OSError: nothing came.
        ValueError: the process ended, or said something else.
    """
    control.settimeout(START_TIMEOUT_S)
    line = b""
    while not line.endswith(b"\n"):
        part = control.recv(4096)
        if not part:
            raise ValueError("its process ended")
        line += part
    control.settimeout(None)
    facts: dict[str, bool] = json.loads(line)
    return facts
