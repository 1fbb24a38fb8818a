"""Reports and announcements on their way: sent in order, each until it is answered.

One thread sends; the trainer goes on meanwhile. Every entry has its idempotency key from the
start, so that sending it again, also from another process, never counts it twice. `facade.py`
puts entries in; `away.py` says which errors mean that the sampler is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from etude_proto.v1 import AckReceipt, PolicyVersionRequest, Receipt, Report

from ..errors import EtudeError, LeaseNotFound, LeaseSuperseded
from .away import Outage, is_away

logger = logging.getLogger("etude_client")

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
"""Bounds of the wait between two attempts to reach a sampler that is away (our choice)."""


class DeliveryFailed(EtudeError):
    """The sampler refused a report or an announcement; nothing after it was sent."""


class PackedEntry(TypedDict):
    """An entry as JSON, for a trainer's checkpoint."""

    kind: Literal["report", "version"]
    lease_id: str
    key: str
    body: str


@dataclass(slots=True)
class Entry:
    """One call to be made, and in the end its answer."""

    body: Report | PolicyVersionRequest
    key: str
    """Idempotency key."""
    lease_id: str = ""
    """Of a report."""
    answer: Receipt | AckReceipt | None = None
    error: EtudeError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def pack(self) -> PackedEntry:
        """As JSON."""
        kind: Literal["report", "version"] = "report" if self.lease_id else "version"
        text = self.body.model_dump_json()
        return PackedEntry(kind=kind, lease_id=self.lease_id, key=self.key, body=text)

    @classmethod
    def unpack(cls, packed: PackedEntry) -> Entry:
        """From JSON."""
        model = Report if packed["kind"] == "report" else PolicyVersionRequest
        body = model.model_validate_json(packed["body"])
        return cls(body=body, key=packed["key"], lease_id=packed["lease_id"])


class Delivery:
    """A report or announcement on its way."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    @property
    def is_done(self) -> bool:
        """Whether the sampler has answered."""
        return all(entry.done.is_set() for entry in self._entries)

    @property
    def is_late(self) -> bool:
        """Whether a lease had run out: the outcomes are kept, and do not count."""
        return any(entry.error is not None for entry in self._entries)

    def receipts(self, timeout_s: float | None = None) -> list[Receipt]:
        """The sampler's answers, one a lease, those that came late left out.

        Raises:
            TimeoutError: it has not answered within `timeout_s`.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        for entry in self._entries:
            left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
            if not entry.done.wait(left_s):
                raise TimeoutError(f"not delivered within {timeout_s} s")
        return [entry.answer for entry in self._entries if isinstance(entry.answer, Receipt)]


class Outbox:
    """Entries in order, and the thread that sends them.

    Args:
        send: makes one call; may raise `EtudeError`.
        settled: told of every entry that was answered.
        outage: where it is noted that the sampler is away.
    """

    def __init__(
        self,
        send: Callable[[Entry], Receipt | AckReceipt],
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
            self._changed.wait_for(lambda: self._error or not self._entries, timeout_s)
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
        """Stop sending."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=LONGEST_DELAY_S)

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
            try:
                entry.answer = self._send(entry)
            except (LeaseSuperseded, LeaseNotFound) as error:
                entry.error = error
                logger.warning("a report came late, and is kept without counting: %s", error)
            except EtudeError as error:
                if is_away(error):
                    self._outage.begin(error)
                    with self._changed:
                        self._changed.wait_for(lambda: self._is_closing, delay_s)
                    delay_s = min(2 * delay_s, LONGEST_DELAY_S)
                    continue
                self._refuse(entry, error)
                continue
            delay_s = FIRST_DELAY_S
            self._outage.end()
            self._settle(entry)

    def _refuse(self, entry: Entry, error: EtudeError) -> None:
        with self._changed:
            if self._entries and self._entries[0] is entry:
                self._error = error
            self._changed.notify_all()

    def _settle(self, entry: Entry) -> None:
        self._settled(entry)
        with self._changed:
            self.num_delivered += entry.error is None
            self.num_late += entry.error is not None
            if self._entries and self._entries[0] is entry:
                self._entries.popleft()
            entry.done.set()
            self._changed.notify_all()
