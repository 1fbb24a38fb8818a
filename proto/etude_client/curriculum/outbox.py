"""Reports and announcements on their way: sent in order, each until it is answered.

One thread sends; the trainer goes on meanwhile. Every entry has its idempotency key from the
start, so that sending it again, also from another process, never counts it twice. `facade.py`
puts `entries` in; `away.py` says which errors mean that the sampler is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ..errors import EtudeError, LeaseNotFound, LeaseSuperseded, TaskNotLeased
from .away import Outage, is_away
from .entries import DeliveryFailed, Entry, PackedEntry, Reply

logger = logging.getLogger("etude_client")

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
"""Bounds of the wait between two attempts to reach a sampler that is away (our choice)."""


class Outbox:
    """Entries in order, and the thread that sends them.

    Args:
        send: makes one call; may raise `EtudeError`.
        settled: told of every entry that was answered.
        outage: where it is noted that the sampler is away.
    """

    def __init__(
        self,
        send: Callable[[Entry], Reply],
        *,
        settled: Callable[[Entry], None],
        outage: Outage,
    ) -> None:
        self._send = send
        self._settled = settled
        self._outage = outage
        self._entries: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._error: EtudeError | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self.num_delivered = 0
        self.num_late = 0

    def put(self, entry: Entry) -> None:
        """Send it when its turn comes.

        Raises:
            DeliveryFailed: an earlier entry was refused.
        """
        with self._changed:
            self._check()
            self._entries.append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="etude outbox", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is delivered; False if that takes longer than `timeout_s`.

        Raises:
            DeliveryFailed: an entry was refused.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._error or self._is_closing or not self._entries, timeout_s
            )
            self._check()
            return not self._entries

    @property
    def num_pending(self) -> int:
        """Entries that are not delivered yet."""
        return len(self._entries)

    def pending(self) -> list[PackedEntry]:
        """What is not delivered yet, in order."""
        with self._changed:
            return [entry.pack() for entry in self._entries]

    def discard(self) -> int:
        """Forget what is not delivered and any refusal: it belongs to a discarded future."""
        with self._changed:
            num_discarded = len(self._entries)
            for entry in self._entries:
                entry.done.set()
            self._entries.clear()
            self._error = None
            self._changed.notify_all()
        return num_discarded

    def close(self) -> None:
        """Stop sending; whoever waits for what is left is told."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=LONGEST_DELAY_S)
        for entry in list(self._entries):
            entry.fail(EtudeError("the curriculum was closed before it was delivered"))

    def _check(self) -> None:
        if self._error is not None:
            raise DeliveryFailed(f"the sampler refused what was delivered: {self._error}") from (
                self._error
            )

    def _run(self) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_closing or (self._entries and self._error is None)
                )
                if self._is_closing:
                    return
                entry = self._entries[0]
            begun_s = time.monotonic()
            try:
                entry.answer = self._send(entry)
            except (LeaseSuperseded, LeaseNotFound) as error:
                entry.error = error
                if entry.kind == "report":
                    logger.warning("a report came late, and is kept without counting: %s", error)
            except TaskNotLeased as error:
                if not self._is_repeat(entry, error):
                    continue
            except EtudeError as error:
                if is_away(error):
                    self._outage.begin(error, since_s=begun_s)
                    with self._changed:
                        self._changed.wait_for(lambda: self._is_closing, delay_s)
                    delay_s = min(2 * delay_s, LONGEST_DELAY_S)
                    continue
                self._refuse(entry, error)
                continue
            except Exception as error:  # nobody would be told of a thread that ended
                if not self._is_closing:
                    logger.exception("a delivery could not be sent")
                self._refuse(entry, EtudeError(f"{type(error).__name__}: {error}"))
                continue
            delay_s = FIRST_DELAY_S
            self._outage.end()
            self._settle(entry)

    def _is_repeat(self, entry: Entry, refusal: TaskNotLeased) -> bool:
        """Whether all of it was reported before; what was is left out."""
        with self._changed:
            num_before = len(getattr(entry.body, "groups", ()))
            num_left = entry.without_reported(refusal)
        if num_left:
            logger.warning(
                "%d of %d groups of a report were reported before: the first report counts (%s)",
                num_before - num_left,
                num_before,
                refusal,
            )
            return False
        logger.warning("a report was made before: the first one counts (%s)", refusal)
        entry.error = refusal
        return True

    def _refuse(self, entry: Entry, error: EtudeError) -> None:
        with self._changed:
            if self._entries and self._entries[0] is entry:
                self._error = error
                for one in self._entries:
                    one.fail(error)
            self._changed.notify_all()

    def _settle(self, entry: Entry) -> None:
        self._settled(entry)
        is_late = entry.error is not None and entry.kind == "report"
        with self._changed:
            self.num_delivered += not is_late and entry.kind != "release"
            self.num_late += is_late
            if self._entries and self._entries[0] is entry:
                self._entries.popleft()
            entry.done.set()
            self._changed.notify_all()
