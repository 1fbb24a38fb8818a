"""How far a long import is: one line on a terminal, from the second second on.

For the curriculum's client, which has no library for it; the CLI has a bar of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

QUIET_S = 2.0
"""An import that is over by then says nothing."""
STEP_S = 0.5
"""Time between two lines."""


class ProgressLine:
    """Says how many rows are done, on one line that is written over; nothing if not a terminal.

    Args:
        what: is done with the rows, for example `importing`.
        total: how many there are, if known.
        stream: default: standard error.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._what, self._total, self._clock = what, total, clock
        self._begun = clock()
        self._next = self._begun + QUIET_S
        self._is_shown = False

    def __call__(self, num_rows: int) -> None:
        """So many rows are done."""
        now = self._clock()
        if now < self._next or not self._stream.isatty():
            return
        self._next = now + STEP_S
        self._is_shown = True
        rate = num_rows / max(now - self._begun, 1e-9)
        of = "" if self._total is None else f" of {self._total:,}"
        self._stream.write(f"\r{self._what}: {num_rows:,}{of} rows, {rate:,.0f} a second\x1b[K")
        self._stream.flush()

    def close(self) -> None:
        """End the line, if there was one."""
        if self._is_shown:
            self._stream.write("\n")
            self._stream.flush()
