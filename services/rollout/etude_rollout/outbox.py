"""Delivery of finished groups under one lease, each as soon as it is done.

A group that was generated is data and is not thrown away: while the sampler cannot be reached or
is too busy, delivery is tried again, under the same idempotency key, until the sampler itself says
that the lease is lost. Used by `batch.py`; encodes with `etude_proto.tensors`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from etude_client import AsyncEtudeClient
from etude_client.errors import (
    ApiError,
    BodyTooLarge,
    Busy,
    EtudeError,
    IdempotencyInProgress,
    InternalError,
    LeaseNotFound,
    LeaseSuperseded,
    Unreachable,
)
from etude_client.tracing import span
from etude_proto.cargo import CargoError
from etude_proto.tensors import GroupTrajectories, encode_group
from etude_proto.v1 import Lease, Receipt, Report

from .episode import FinishedGroup

_log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
"""Pauses between calls that failed after the client's own retries (our choice)."""


Finish = Callable[[GroupTrajectories], GroupTrajectories]


def _as_it_is(trajectories: GroupTrajectories) -> GroupTrajectories:
    return trajectories


class Delivery(StrEnum):
    """What became of a group's report."""

    ACCEPTED = "accepted"
    WITHOUT_TOKENS = "without_tokens"
    """The trajectories were too large; the outcomes were accepted."""
    LOST = "lost"
    """The lease was somebody else's by then."""
    REFUSED = "refused"
    """The sampler will not take it, ever: a fault in one of us."""
    ABANDONED = "abandoned"
    """The worker had to stop first."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One finished delivery."""

    group: FinishedGroup
    delivery: Delivery
    receipt: Receipt | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Sender:
    """Who reports, for the ledger."""

    worker: str
    engine: str


class Outbox:
    """The deliveries of one lease; they go on when the work that filled it is cancelled."""

    def __init__(
        self,
        client: AsyncEtudeClient,
        lease: Lease,
        sender: Sender,
        *,
        with_tokens: bool,
        on_delivered: Callable[[Delivered], None],
        finish: Finish = _as_it_is,
    ) -> None:
        """
        Args:
            with_tokens: whether trajectories are sent at all.
            finish: what is added to trajectories just before they are encoded, in a thread.
        """
        self._client = client
        self._lease = lease
        self._sender = sender
        self._with_tokens = with_tokens
        self._on_delivered = on_delivered
        self._finish = finish
        self._tasks: set[asyncio.Task[None]] = set()
        self.num_settled = 0
        """Groups that need no release: accepted, or lost with the lease."""

    def post(self, group: FinishedGroup) -> None:
        """Start to deliver a group."""
        name = f"report {group.report.task_id}"
        self._tasks.add(asyncio.create_task(self._deliver(group), name=name))

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait for every delivery; what is not done in time is abandoned.

        Raises:
            Exception: what a delivery raised that nobody foresaw.
        """
        if not self._tasks:
            return
        _, pending = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        for task in self._tasks:
            if not task.cancelled():
                task.result()

    async def _deliver(self, group: FinishedGroup) -> None:
        started = time.monotonic()
        receipt: Receipt | None = None
        delivery = Delivery.ABANDONED
        try:
            with span("report", lease=self._lease.id, task=group.report.task_id):
                delivery, receipt = await self._send(group)
        finally:
            if delivery is not Delivery.ABANDONED:
                self.num_settled += delivery is not Delivery.REFUSED
            seconds = time.monotonic() - started
            self._on_delivered(Delivered(group, delivery, receipt, seconds))

    async def _send(self, group: FinishedGroup) -> tuple[Delivery, Receipt | None]:
        body = await self._body(group)
        try:
            return Delivery.ACCEPTED, await self._send_until_answered(body)
        except BodyTooLarge as error:
            if not isinstance(body, bytes):
                return self._refused(group, error), None
            _log.error("report.too_large", extra={"task": group.report.task_id, "detail": error})
        except (LeaseSuperseded, LeaseNotFound) as error:
            _log.warning("report.lost", extra={"task": group.report.task_id, "detail": error})
            return Delivery.LOST, None
        except EtudeError as error:
            return self._refused(group, error), None
        try:
            return Delivery.WITHOUT_TOKENS, await self._send_until_answered(self._report(group))
        except (LeaseSuperseded, LeaseNotFound):
            return Delivery.LOST, None
        except EtudeError as error:
            return self._refused(group, error), None

    async def _send_until_answered(self, body: Report | bytes) -> Receipt:
        """
        Raises:
            EtudeError: an answer that no repetition can change.
        """
        key = uuid.uuid4().hex
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._client.report_groups(self._lease.id, body, idempotency_key=key)
            except (Unreachable, Busy, InternalError, IdempotencyInProgress) as error:
                _log.warning("report.retried", extra={"lease": self._lease.id, "detail": error})
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _body(self, group: FinishedGroup) -> Report | bytes:
        report = self._report(group)
        if not self._with_tokens or group.trajectories is None:
            return report
        try:
            return await asyncio.to_thread(self._encode, group.trajectories, report)
        except CargoError as error:
            _log.error("report.not_encoded", extra={"task": group.report.task_id, "detail": error})
            return report

    def _encode(self, trajectories: GroupTrajectories, report: Report) -> bytes:
        return encode_group(self._finish(trajectories), report)

    def _report(self, group: FinishedGroup) -> Report:
        return Report(
            fence=self._lease.fence,
            groups=[group.report],
            worker=self._sender.worker,
            engine=self._sender.engine,
        )

    def _refused(self, group: FinishedGroup, error: EtudeError) -> Delivery:
        request = error.problem.request_id if isinstance(error, ApiError) else "-"
        _log.error(
            "report.refused",
            extra={"task": group.report.task_id, "request_id": request, "detail": error},
        )
        return Delivery.REFUSED
