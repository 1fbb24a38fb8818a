"""What one process holds of a `Curriculum`: connections, open leases, deliveries.

Made on first use and anew in each process, so that a `Curriculum` survives `fork` and pickling:
threads and sockets do not. `session.py` owns it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from etude_proto.v1 import (
    ExtendRequest,
    Lease,
    PolicyVersionRequest,
    PromptBatch,
    PromptBatchRequest,
    Receipt,
    ReleaseRequest,
)

from .. import operations
from ..attempts import RetryPolicy
from ..errors import EtudeError, LeaseNotFound, LeaseSuperseded, TaskNotLeased
from ..sync_client import EtudeClient
from .away import Outage, is_away
from .entries import DeliveryFailed, Entry, Reply
from .keeping import MOST_BEATS_S, LeaseKeeper
from .options import Chosen
from .outbox import Outbox

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

logger = logging.getLogger("etude_client")

CALL_S = 30.0
"""Longest silence of a call (our choice)."""
HAND_OVER_S = 600.0
"""Time to live of the leases of a worker process that ended, until another process holds them or
reports (our choice)."""


@dataclass(frozen=True, slots=True)
class Status:
    """What became of the calls of this process so far."""

    num_delivered: int
    num_pending: int
    """Reports and announcements that are not answered yet."""
    num_late: int
    """Reports under leases that had run out, kept in the ledger, outside the statistics; and
    repeated ones."""
    num_alone: int
    """Groups of tasks that this client drew by itself: nothing to report them under."""
    num_outages: int
    away_s: float
    """How long the sampler has been away now."""


class Live:
    """Connections, threads and queues of this process.

    Args:
        run_id: what is practised.
        options: where, and how.
    """

    def __init__(self, run_id: str, options: Chosen) -> None:
        self.pid = os.getpid()
        self.run_id = run_id
        self.worker = options.worker or _worker_name(self.pid)
        self._patience_s = options.patience_s
        # The loops of this package try again by themselves, and say so.
        self.client = EtudeClient(
            options.url, api_key=options.api_key, timeout_s=CALL_S, max_attempts=2
        )
        # One call that hangs must not cost the other leases their beats, nor an end its time.
        self._brief = EtudeClient(
            options.url, api_key=options.api_key, timeout_s=MOST_BEATS_S, max_attempts=1
        )
        waits = options.on_outage == "wait"
        self.outage = Outage(
            options.url, "waiting for it" if waits else "rows are drawn uniformly before long"
        )
        self.keeper = LeaseKeeper(self._extend, hold_s=options.hold_s)
        self.outbox = Outbox(self._deliver, settled=self._settled, outage=self.outage)
        self._forget_exit = self._watch_exit()

    def status(self, *, num_alone: int) -> Status:
        """What became of the calls so far."""
        return Status(
            num_delivered=self.outbox.num_delivered,
            num_pending=self.outbox.num_pending,
            num_late=self.outbox.num_late,
            num_alone=num_alone,
            num_outages=self.outage.num_outages,
            away_s=self.outage.seconds,
        )

    def lease(
        self, request: PromptBatchRequest, *, key: str, within_s: float | None
    ) -> PromptBatch:
        """A prompt batch; given up after `within_s`, also where the sampler hangs."""
        policy = RetryPolicy(CALL_S, 2, None)
        if within_s is not None:
            policy = RetryPolicy(min(CALL_S, within_s), 2, request.wait_s + within_s)
        call = operations.lease_prompt_batch(self.run_id, request, key=key)
        return self.client._send(call, policy=policy)

    def release(self, leases: list[Lease]) -> None:
        """Give leases back; what cannot be given back runs out by itself."""
        is_there = True
        for lease in leases:
            self.keeper.drop(lease.id)
            try:
                if is_there:
                    self._brief.release_lease(lease.id, ReleaseRequest(fence=lease.fence))
            except EtudeError as error:
                is_there = not is_away(error)
                logger.debug("lease %s is left to run out: %s", lease.id, error)

    def close(self) -> None:
        """Deliver what is under way, give leases back, stop the threads."""
        self._forget_exit()
        try:
            self._drain()
            self.release(self.keeper.open())
        finally:
            self.keeper.close()
            self.outbox.close()
            self.client.close()
            self._brief.close()

    def _drain(self) -> None:
        """Deliver what can be; say what could not."""
        why = f"not within {self._patience_s:g} s"
        try:
            if self.outbox.flush(self._patience_s):
                return
        except DeliveryFailed as error:
            why = str(error)
        logger.warning(
            "%d reports and announcements for %s were not delivered, and are lost unless a "
            "checkpoint holds them: %s",
            self.outbox.num_pending,
            self.run_id,
            why,
        )

    def _watch_exit(self) -> Callable[[], object]:
        """Have this process end well if nobody calls `close`; how to undo that."""
        processes = sys.modules.get("multiprocessing.process")
        parent = None if processes is None else processes.parent_process()
        if parent is None:
            atexit.register(self._at_exit)
            return partial(atexit.unregister, self._at_exit)
        from multiprocessing.util import Finalize

        ending = Finalize(None, self._hand_over, args=(parent,), exitpriority=10)
        return ending.cancel

    def _at_exit(self) -> None:
        """The interpreter ends."""
        if self.pid == os.getpid():
            self._drain()
            self.release(self.keeper.open())

    def _hand_over(self, parent: BaseProcess) -> None:
        """A worker process ends, and its batches are in other hands: the leases must last."""
        if self.pid != os.getpid() or not parent.is_alive():
            return
        self._drain()
        with contextlib.suppress(EtudeError):
            for lease in self.keeper.open():
                ttl_s = max(lease.ttl_s, HAND_OVER_S)
                request = ExtendRequest(fence=lease.fence, ttl_s=ttl_s)
                with contextlib.suppress(LeaseNotFound, LeaseSuperseded):
                    self._brief.extend_lease(lease.id, request)

    def _extend(self, lease: Lease) -> Lease:
        return self._brief.extend_lease(
            lease.id, ExtendRequest(fence=lease.fence, ttl_s=lease.ttl_s)
        )

    def _deliver(self, entry: Entry) -> Reply:
        body, key = entry.body, entry.key
        if isinstance(body, PolicyVersionRequest):
            return self.client.announce_policy_version(self.run_id, body, idempotency_key=key)
        if isinstance(body, ReleaseRequest):
            return self.client.release_lease(entry.lease_id, body, idempotency_key=key)
        return self.client.report_groups(entry.lease_id, body, idempotency_key=key)

    def _settled(self, entry: Entry) -> None:
        if isinstance(entry.error, TaskNotLeased):
            return  # a repeat: of its lease's other tasks it says nothing
        answer = entry.answer
        if not isinstance(answer, Receipt) or not answer.num_remaining:
            self.keeper.drop(entry.lease_id)


def _worker_name(pid: int) -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64].lstrip(".-")
    return f"{host or 'host'}-{pid}"
