"""A sampler that is away: which errors say so, and one log line when it goes and comes back.

`outbox.py` and `facade.py` note what they see here; both go on by their own rules.
"""

from __future__ import annotations

import logging
import threading
import time

from ..errors import Busy, EtudeError, IdempotencyInProgress, InternalError, Unreachable

logger = logging.getLogger("etude_client")

REMIND_S = 30.0
"""Seconds between two warnings of one outage."""


def is_away(error: EtudeError) -> bool:
    """Whether a later attempt at the same call may succeed."""
    return isinstance(error, Unreachable | Busy | InternalError | IdempotencyInProgress)


class Outage:
    """Since when the sampler has not answered; safe to share between threads.

    Args:
        url: of the sampler, for the log.
        plan: what happens meanwhile, for the log.
    """

    def __init__(self, url: str, plan: str) -> None:
        self._url = url
        self._plan = plan
        self._lock = threading.Lock()
        self._since_s: float | None = None
        self._warned_s = 0.0
        self.num_outages = 0

    @property
    def seconds(self) -> float:
        """How long it has been away; 0 while it is there."""
        with self._lock:
            return 0.0 if self._since_s is None else time.monotonic() - self._since_s

    def begin(self, error: EtudeError, *, since_s: float | None = None) -> None:
        """Note that a call was not answered.

        Args:
            error: what it ended with.
            since_s: when it began, by the monotonic clock; default: now.
        """
        with self._lock:
            now_s = time.monotonic()
            if self._since_s is None:
                self._since_s = now_s if since_s is None else since_s
                self.num_outages += 1
            elif now_s - self._warned_s < REMIND_S:
                return
            self._warned_s = now_s
            away_s = now_s - self._since_s
        logger.warning(
            "the sampler at %s is away since %.0f s; %s (%s)", self._url, away_s, self._plan, error
        )

    def end(self) -> None:
        """Note that a call was answered."""
        with self._lock:
            if self._since_s is None:
                return
            away_s = time.monotonic() - self._since_s
            self._since_s = None
        logger.warning("the sampler at %s is back after %.0f s", self._url, away_s)
