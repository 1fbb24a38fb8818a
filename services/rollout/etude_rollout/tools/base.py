"""The interface of an environment, and the two ways in which a call can go wrong.

A `ToolError` is the policy's business: its text is the observation. An `EnvironmentFailed` is ours:
the rollout ends as an infrastructure failure and says nothing about the policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from etude_proto.v1 import Environment as EnvironmentSpec
from etude_proto.v1 import FinishReason, Message, Reference, Tool

OPENING_S = 60.0
"""How long an environment may take to open, however short its calls must be (our choice)."""


class ToolError(Exception):
    """What the tool says to a call that it cannot do; becomes the observation."""


class EnvironmentFailed(Exception):
    """The environment crashed, hung or cannot be reached."""

    def __init__(self, reason: FinishReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the policy made it."""

    name: str
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opening:
    """What an environment is opened with."""

    spec: EnvironmentSpec
    """Kind and configuration, as the task has them."""
    reference: Reference | None
    """The gold, for environments that judge their own state."""
    tools: Sequence[Tool]
    """Tools that the task brings; most environments list their own."""
    seed: int
    """For what an environment draws at random: the same seed, the same episode."""
    call_timeout_s: float

    @property
    def opening_timeout_s(self) -> float:
        """For everything up to the first call: servers and processes have to start."""
        return max(self.call_timeout_s, OPENING_S)


class Environment(Protocol):
    """The state of one rollout. One call at a time, unless `runs_parallel`."""

    runs_parallel: bool
    """Whether calls of one turn may run at the same time."""

    @property
    def tools(self) -> Sequence[Tool]:
        """Tools on offer now."""

    async def call(self, call: ToolCall) -> str:
        """Execute a call; the observation.

        Raises:
            ToolError: the tool refuses; the text is the observation.
            EnvironmentFailed: nobody knows what the call did.
        """

    async def next_request(self, number: int) -> list[Message]:
        """A user's turn begins (1 is the first after the task's own); messages that go before it.

        Raises:
            EnvironmentFailed: the environment is gone.
        """

    async def end_request(self) -> None:
        """The policy has answered a user's turn without a call.

        Raises:
            EnvironmentFailed: the environment is gone.
        """

    async def judge(self) -> Mapping[str, float]:
        """Components in [0, 1] that only the environment can tell; empty for most.

        Raises:
            EnvironmentFailed: the environment is gone.
        """

    async def close(self) -> None:
        """Free everything; never raises."""


class EnvironmentOpener(Protocol):
    """Opens environments of one kind; made once a worker."""

    async def open(self, opening: Opening) -> Environment:
        """A fresh state.

        Raises:
            EnvironmentFailed: it cannot be opened.
        """

    async def close(self) -> None:
        """Free what all environments share; never raises."""
