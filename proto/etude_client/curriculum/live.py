"""What one process holds of a `Curriculum`: connections, open leases, deliveries.

Made on first use and anew in each process, so that a `Curriculum` survives `fork` and pickling:
threads and sockets do not. `facade.py` owns it.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass

from etude_proto.v1 import (
    AckReceipt,
    ExtendRequest,
    Lease,
    PolicyVersionRequest,
    Receipt,
    ReleaseRequest,
)

from ..errors import EtudeError
from ..sync_client import EtudeClient
from .away import Outage
from .keeping import LeaseKeeper
from .options import Chosen
from .outbox import Entry, Outbox

logger = logging.getLogger("etude_client")

HOLD_S = 3600.0
"""A lease is given up after so long without report or release (our choice)."""


@dataclass(frozen=True, slots=True)
class Status:
    """What became of the calls of this process so far."""

    num_delivered: int
    num_pending: int
    """Reports and announcements that are not answered yet."""
    num_late: int
    """Reports under leases that had run out: kept in the ledger, outside the statistics."""
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
        # The loops of this package try again by themselves, and say so.
        self.client = EtudeClient(
            options.url, api_key=options.api_key, timeout_s=30.0, max_attempts=2
        )
        waits = options.on_outage == "wait"
        self.outage = Outage(
            options.url, "waiting for it" if waits else "rows are drawn uniformly before long"
        )
        self.keeper = LeaseKeeper(self._extend, hold_s=HOLD_S)
        self.outbox = Outbox(self._deliver, settled=self._settled, outage=self.outage)

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

    def release(self, leases: list[Lease]) -> None:
        """Give leases back; what cannot be given back runs out by itself."""
        for lease in leases:
            self.keeper.drop(lease.id)
            try:
                self.client.release_lease(lease.id, ReleaseRequest(fence=lease.fence))
            except EtudeError as error:
                logger.debug("lease %s is left to run out: %s", lease.id, error)

    def close(self) -> None:
        """Stop the threads and close the connections."""
        self.keeper.close()
        self.outbox.close()
        self.client.close()

    def _extend(self, lease: Lease) -> Lease:
        return self.client.extend_lease(
            lease.id, ExtendRequest(fence=lease.fence, ttl_s=lease.ttl_s)
        )

    def _deliver(self, entry: Entry) -> Receipt | AckReceipt:
        if isinstance(entry.body, PolicyVersionRequest):
            return self.client.announce_policy_version(
                self.run_id, entry.body, idempotency_key=entry.key
            )
        return self.client.report_groups(entry.lease_id, entry.body, idempotency_key=entry.key)

    def _settled(self, entry: Entry) -> None:
        answer = entry.answer
        if entry.error is not None or (isinstance(answer, Receipt) and not answer.num_remaining):
            self.keeper.drop(entry.lease_id)


def _worker_name(pid: int) -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64].lstrip(".-")
    return f"{host or 'host'}-{pid}"
