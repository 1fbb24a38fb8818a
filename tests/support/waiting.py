"""Waiting for a condition instead of sleeping, and time that passes: only here is slept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.02


def wait_for(condition: Callable[[], bool], *, what: str, timeout_s: float = 10.0) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it did not hold within `timeout_s`; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(POLL_S)


async def wait_until(
    condition: Callable[[], Awaitable[bool]], *, what: str, timeout_s: float = 10.0
) -> None:
    """`wait_for` for a condition that is awaited.

    Raises:
        AssertionError: it did not hold within `timeout_s`; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(POLL_S)


async def pass_time(seconds: float) -> None:
    """Let time pass where passing time is what is simulated: a client's work, a fault's length.

    Never to wait for something: that is what the functions above are for.
    """
    await asyncio.sleep(seconds)
