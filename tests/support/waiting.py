"""Waiting for a condition instead of sleeping, and time that passes: only here is slept.

Looking costs the processor that is waited for: the longer a wait, the longer the pauses, up to a
twentieth of what was waited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.02
_LONGEST_POLL_S = 0.1


def _pause_s(waited_s: float) -> float:
    return min(max(POLL_S, waited_s / 20), _LONGEST_POLL_S)


def wait_for(condition: Callable[[], bool], *, what: str, timeout_s: float = 10.0) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it did not hold within `timeout_s`; the message names `what`.
    """
    began = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - began
        if waited_s > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(_pause_s(waited_s))


async def wait_until(
    condition: Callable[[], Awaitable[bool]], *, what: str, timeout_s: float = 10.0
) -> None:
    """`wait_for` for a condition that is awaited.

    Raises:
        AssertionError: it did not hold within `timeout_s`; the message names `what`.
    """
    began = time.monotonic()
    while not await condition():
        waited_s = time.monotonic() - began
        if waited_s > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(_pause_s(waited_s))


async def pass_time(seconds: float) -> None:
    """Let time pass where passing time is what is simulated: a client's work, a fault's length.

    Never to wait for something: that is what the functions above are for.
    """
    await asyncio.sleep(seconds)
