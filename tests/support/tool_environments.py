"""Openings of environments for tests, and what an observation or a failure of a call was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from etude_proto.v1 import BfclTurnsReference, CalculatorEnvironment, Tool
from etude_proto.v1 import Environment as EnvironmentSpec
from etude_rollout.tools.base import Opening
from etude_rollout.tools.opening import Environments
from etude_rollout.tools.servers import Servers
from etude_rollout.tools.session import Session

CALL_TIMEOUT_S = 5.0


def opening(
    spec: EnvironmentSpec | None = None,
    *,
    gold: Sequence[Sequence[str]] | None = None,
    tools: Sequence[Tool] = (),
    call_timeout_s: float = CALL_TIMEOUT_S,
) -> Opening:
    """How an environment is opened; the calculator unless told."""
    reference = None if gold is None else BfclTurnsReference(turns=[list(turn) for turn in gold])
    return Opening(spec or CalculatorEnvironment(), reference, tools, 7, call_timeout_s)


@asynccontextmanager
async def environments(servers: Servers | None = None) -> AsyncIterator[Environments]:
    """Environments that are closed at the end."""
    made = Environments(servers)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def session(made: Environments, wanted: Opening) -> AsyncIterator[Session]:
    """A session that is closed at the end."""
    opened = await made.open(wanted, max_chars=200)
    try:
        yield opened
    finally:
        await opened.close()
