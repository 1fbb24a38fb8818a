"""Watching the pair of `etude serve`: a server that died is started again, unless it dies at once.

Used by `cli`. The kernel ends a server with the thread that started it, so the one that starts
servers again lives as long as the process, and stops the pair before it ends.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from .errors import EmbeddedServerError
from .process import LastingThread, RunningServer, log_path
from .serve import Embedded

_LOOK_S = 0.2
_AT_ONCE_S = 10.0
"""A server that lived no longer after it was started again is given up (our choice)."""


class Keeper(LastingThread):
    """Keeps a pair running; `close` stops the pair."""

    def __init__(self, pair: Embedded, *, say: Callable[[str], None]) -> None:
        super().__init__(name="etude-keeper", daemon=True)
        self._pair = pair
        self._say = say
        self._closing = threading.Event()
        self._started_at: dict[str, float] = {}
        """When each server was started again, by the clock that only goes forward."""
        self._fault: Exception | None = None
        self.failure: str | None = None
        """Why the pair was given up; one line."""

    def run(self) -> None:
        """Look after both servers until `close`; a pair that was given up ends the process."""
        while not self._closing.wait(_LOOK_S) and self._keep():
            pass
        if self.failure is not None:
            os.kill(os.getpid(), signal.SIGINT)  # ends uvicorn, which then lets `serve` go on
        self._closing.wait()
        try:
            self._pair.stop()
        except Exception as error:
            self._fault = error

    def close(self) -> None:
        """Stop the pair, and wait until it is gone.

        Raises:
            EmbeddedServerError: a server had to be killed.
        """
        self._closing.set()
        self.join()
        if self._fault is not None:
            raise self._fault

    def _keep(self) -> bool:
        """Start again what died; False: it is given up."""
        for server, again in (
            (self._pair.postgres, self._pair.start_postgres),
            (self._pair.redis, self._pair.start_redis),
        ):
            if not server.alive:
                self.failure = self._mend(server, again)
                if self.failure is not None:
                    return False
        return True

    def _mend(self, dead: RunningServer, again: Callable[[], RunningServer]) -> str | None:
        """Start a server again; why that is given up, if it is."""
        name, log = dead.name, log_path(dead.data_dir)
        how = f"embedded {name} (process {dead.pid}) ended with code {dead.process.returncode}"
        lived_s = time.monotonic() - self._started_at.get(name, -_AT_ONCE_S)
        if lived_s < _AT_ONCE_S:
            return f"{how}, {lived_s:.1f} s after it was started again; its log is {log}"
        try:
            alive = again()
        except (EmbeddedServerError, OSError) as error:
            why = str(error).splitlines()[0]
            return f"{how} and does not start again: {why}; its log is {log}"
        self._started_at[name] = time.monotonic()
        self._say(f"{how}; it was started again as process {alive.pid}; its log is {log}")
        return None


def keep(pair: Embedded, *, say: Callable[[str], None]) -> Keeper:
    """Keep a pair running from now on."""
    keeper = Keeper(pair, say=say)
    keeper.start()
    return keeper
