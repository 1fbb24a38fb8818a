"""Rebuilds in the background: at most a few at once, later and later while they fail.

`background` says which runs are not served; the lock in PostgreSQL keeps other replicas from the
same run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ..errors import SamplerError
from ..ports.races import EpochMismatch
from .rebuild import Rebuilder

_LOG = logging.getLogger("etude.rebuild")
_AT_ONCE = 2
"""Rebuilds of one replica at a time (our choice: a core for them, a core for serving)."""
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 15.0
"""Bounds of the wait after failed attempts, say while Redis is full."""


class Mending:
    """The rebuilds that this replica has begun, or will."""

    def __init__(self, rebuilder: Rebuilder, *, done: Callable[[], None]) -> None:
        self._rebuilder = rebuilder
        self._done = done
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[int, float]] = {}
        """Failed attempts of a run, and when to try again."""

    def begin(self, run_id: str) -> None:
        """Rebuild a run, unless that is going on or has just failed."""
        _, not_before_s = self._failed.get(run_id, (0, 0.0))
        if run_id not in self._tasks and time.monotonic() >= not_before_s:
            self._tasks[run_id] = asyncio.create_task(self._mend(run_id))

    def pending(self) -> list[asyncio.Task[None]]:
        """Rebuilds that have not ended."""
        return list(self._tasks.values())

    async def _mend(self, run_id: str) -> None:
        try:
            async with self._turns:
                await self._rebuilder.ensure(run_id)
            self._failed.pop(run_id, None)
        except (SamplerError, EpochMismatch) as error:
            self._delay(run_id)
            _LOG.warning("run.rebuild_failed", extra={"run": run_id, "error": str(error)})
        except Exception:
            self._delay(run_id)
            _LOG.exception("run.rebuild_crashed", extra={"run": run_id})
        finally:
            del self._tasks[run_id]
            self._done()

    def _delay(self, run_id: str) -> None:
        num, _ = self._failed.get(run_id, (0, 0.0))
        delay_s = min(_FIRST_DELAY_S * 2.0 ** min(num, 10), _LONGEST_DELAY_S)
        self._failed[run_id] = (num + 1, time.monotonic() + delay_s)
