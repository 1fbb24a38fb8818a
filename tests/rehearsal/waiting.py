"""Waiting for a condition: only here does the rehearsal sleep."""

from __future__ import annotations

import time
from collections.abc import Callable

from .shell import Failed

POLL_S = 0.2


def await_that(holds: Callable[[], bool], *, what: str, within_s: float) -> float:
    """Seconds until a condition holds.

    Raises:
        Failed: it does not within `within_s`.
    """
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within_s:
            raise Failed(f"not within {within_s:.0f} s: {what}")
        time.sleep(POLL_S)
    return time.monotonic() - began
