"""A session: one rollout's environment with limits around it, and a record to repeat it by.

Time and size of every answer are bounded here, whatever the environment does; what a plug-in raises
that nobody foresaw is an infrastructure failure. A branch of a rollout gets a session of its own,
brought to the same state by the same calls. Opened by `opening.py`, used by `turns/`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from etude_proto.v1 import FinishReason, Message, Tool

from .base import Environment, EnvironmentFailed, Opening, ToolCall, ToolError

GRACE_S = 10.0
"""How much longer than a call's limit a session waits: environments keep the limit themselves."""
CUT = "\n[cut: the answer was longer]"

Open = Callable[[Opening], Awaitable[Environment]]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a call answered."""

    text: str
    is_error: bool = False


Event = ToolCall | int | None
"""A call, the beginning of a user's turn by its number, or (None) its end."""


class Session:
    """An opened environment; make it with `Session.open`."""

    def __init__(
        self, open_: Open, opening: Opening, environment: Environment, *, max_chars: int
    ) -> None:
        self._open = open_
        self._opening = opening
        self._environment = environment
        self._max_chars = max_chars
        self._record: list[Event] = []

    @classmethod
    async def open(cls, open_: Open, opening: Opening, *, max_chars: int) -> Session:
        """A fresh state.

        Args:
            max_chars: longest answer that is shown; the rest is cut.

        Raises:
            EnvironmentFailed: it cannot be opened.
        """
        async with _guarded(opening.opening_timeout_s):
            environment = await open_(opening)
        return cls(open_, opening, environment, max_chars=max_chars)

    @property
    def tools(self) -> Sequence[Tool]:
        """Tools on offer now."""
        return self._environment.tools

    async def call(self, call: ToolCall) -> Observation:
        """Execute a call. Raises `EnvironmentFailed`."""
        self._record.append(call)
        try:
            async with self._guarded():
                text = await self._environment.call(call)
        except ToolError as error:
            return Observation(self._bounded(str(error)), is_error=True)
        return Observation(self._bounded(text))

    async def call_all(self, calls: Sequence[ToolCall], *, at_once: int) -> list[Observation]:
        """Execute a turn's calls in their order, or some of them at the same time.

        Args:
            at_once: most calls that run together, where the environment allows it.

        Raises:
            EnvironmentFailed: any of them failed.
        """
        if at_once <= 1 or not self._environment.runs_parallel:
            return [await self.call(call) for call in calls]
        free = asyncio.Semaphore(at_once)

        async def one(call: ToolCall) -> Observation:
            async with free:
                return await self.call(call)

        # All of them are heard before the first failure is raised: none is left behind.
        answers = await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, Observation)]

    async def next_request(self, number: int) -> list[Message]:
        """A user's turn begins. Raises `EnvironmentFailed`."""
        self._record.append(number)
        async with self._guarded():
            return await self._environment.next_request(number)

    async def end_request(self) -> None:
        """The policy has answered a user's turn. Raises `EnvironmentFailed`."""
        self._record.append(None)
        async with self._guarded():
            await self._environment.end_request()

    async def judge(self) -> Mapping[str, float]:
        """Components of the environment's own. Raises `EnvironmentFailed`."""
        async with self._guarded():
            return await self._environment.judge()

    async def clone(self) -> Session:
        """Another session in the same state. Raises `EnvironmentFailed`."""
        twin = await Session.open(self._open, self._opening, max_chars=self._max_chars)
        try:
            for event in self._record:
                if isinstance(event, ToolCall):
                    await twin.call(event)
                elif event is None:
                    await twin.end_request()
                else:
                    await twin.next_request(event)
        except BaseException:
            await twin.close()
            raise
        return twin

    async def close(self) -> None:
        """Free the environment."""
        await self._environment.close()

    def _guarded(self) -> contextlib.AbstractAsyncContextManager[None]:
        return _guarded(self._opening.call_timeout_s)

    def _bounded(self, text: str) -> str:
        return text if len(text) <= self._max_chars else text[: self._max_chars] + CUT


@contextlib.asynccontextmanager
async def _guarded(limit_s: float) -> AsyncIterator[None]:
    """
    Raises:
        ToolError: as it comes.
        EnvironmentFailed: for everything else that is raised inside, and when it takes too long.
    """
    try:
        async with asyncio.timeout(limit_s + GRACE_S):
            yield
    except (ToolError, EnvironmentFailed):
        raise
    except TimeoutError as error:
        raise EnvironmentFailed(
            FinishReason.TIMEOUT, f"the environment did not answer within {limit_s:g} s"
        ) from error
    except Exception as error:  # a plug-in may raise anything; the worker must outlive it
        raise EnvironmentFailed(
            FinishReason.ERROR, f"the environment failed: {type(error).__name__}: {error}"
        ) from error
