"""What is delivered: reports, announcements and give-backs, with their keys and their answers.

`facade.py` makes them, `outbox.py` sends them; `state.py` keeps those under way in a checkpoint.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from etude_proto.v1 import (
    AckReceipt,
    PolicyVersionRequest,
    Receipt,
    Released,
    ReleaseRequest,
    Report,
)

from ..errors import EtudeError, TaskNotLeased

Kind = Literal["report", "version", "release"]
Body = Report | PolicyVersionRequest | ReleaseRequest
Reply = Receipt | AckReceipt | Released
_BODIES: dict[Kind, type[Body]] = {
    "report": Report,
    "version": PolicyVersionRequest,
    "release": ReleaseRequest,
}


class DeliveryFailed(EtudeError):
    """The sampler refused a report or an announcement; nothing after it was sent."""


class PackedEntry(TypedDict):
    """An entry as JSON, for a trainer's checkpoint."""

    kind: Kind
    lease_id: str
    key: str
    body: str


@dataclass(slots=True)
class Entry:
    """One call to be made, and in the end its answer."""

    body: Body
    key: str
    """Idempotency key."""
    lease_id: str = ""
    """Of a report or a give-back."""
    answer: Reply | None = None
    error: EtudeError | None = None
    """Why it came late."""
    failure: EtudeError | None = None
    """Why it will never be delivered."""
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def kind(self) -> Kind:
        """What it is."""
        return next(kind for kind, model in _BODIES.items() if isinstance(self.body, model))

    @property
    def task_ids(self) -> list[str]:
        """The tasks that it reports."""
        body = self.body
        return [group.task_id for group in body.groups] if isinstance(body, Report) else []

    def pack(self) -> PackedEntry:
        """As JSON."""
        text = self.body.model_dump_json()
        return PackedEntry(kind=self.kind, lease_id=self.lease_id, key=self.key, body=text)

    @classmethod
    def unpack(cls, packed: PackedEntry) -> Entry:
        """From JSON."""
        body = _BODIES[packed["kind"]].model_validate_json(packed["body"])
        return cls(body=body, key=packed["key"], lease_id=packed["lease_id"])

    def fail(self, why: EtudeError) -> None:
        """It will never be delivered; whoever waits for it is told."""
        self.failure = why
        self.done.set()

    def without_reported(self, refusal: TaskNotLeased) -> int:
        """Leave out the groups that the sampler has under this lease already, under a new key.

        Returns:
            How many are left; 0 leaves the entry as it was.
        """
        if not isinstance(self.body, Report):
            return 0
        named = {fault.pointer for fault in refusal.problem.errors}
        groups = [
            group
            for number, group in enumerate(self.body.groups)
            if f"/groups/{number}/task_id" not in named
        ]
        if len(groups) == len(self.body.groups):
            return 0
        if groups:
            self.body = self.body.model_copy(update={"groups": groups})
            self.key = uuid.uuid4().hex
        return len(groups)


class Delivery:
    """A report on its way."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is under way any more."""
        return all(entry.done.is_set() for entry in self._entries)

    @property
    def is_late(self) -> bool:
        """Whether a lease had run out: the outcomes are kept, and do not count."""
        return any(entry.error is not None for entry in self._entries)

    def receipts(self, timeout_s: float | None = None) -> list[Receipt]:
        """The sampler's answers, one a call, those that came late left out.

        Raises:
            TimeoutError: it has not answered within `timeout_s`.
            DeliveryFailed: it refused this report or one before it, or the curriculum was closed.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        for entry in self._entries:
            left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
            if not entry.done.wait(left_s):
                raise TimeoutError(f"not delivered within {timeout_s} s")
            if entry.failure is not None:
                raise DeliveryFailed(f"not delivered: {entry.failure}") from entry.failure
        return [entry.answer for entry in self._entries if isinstance(entry.answer, Receipt)]
