"""Long polls without busy polling: a waiter sleeps until Redis rings its run, or time is up."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Bells:
    """One event per run; ringing wakes every waiter that took its ticket before."""

    def __init__(self) -> None:
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.closed = False
        """Whether this replica is stopping: nobody may wait any longer."""

    def ticket(self, run_id: str) -> asyncio.Event:
        """Take this before looking; a change after it wakes the wait."""
        return self._events[run_id]

    def ring(self, run_id: str) -> None:
        """Wake the waiters of a run; `*` wakes all."""
        names = list(self._events) if run_id == "*" else [run_id]
        for name in names:
            event = self._events.pop(name, None)
            if event is not None:
                event.set()

    def close(self) -> None:
        """Wake everybody for good; a second call does nothing."""
        self.closed = True
        self.ring("*")

    async def wait(self, ticket: asyncio.Event, timeout_s: float) -> None:
        """Sleep until the ticket's run changes, at most `timeout_s`."""
        try:
            await asyncio.wait_for(ticket.wait(), timeout_s)
        except TimeoutError:
            return
