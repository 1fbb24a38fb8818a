"""The wish to stop, as the loop sees it; set by signals or by the end of the API's server."""

from __future__ import annotations

import threading

from .errors import Stopped


class StopSignal:
    """Set once, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the loop to stop."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past a stop; whether one was asked for."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise `Stopped` if a stop was asked for."""
        if self.is_set:
            raise Stopped("asked to stop")
