"""Heartbeats of prompt leases and of training leases: one step for both."""

from __future__ import annotations

import secrets

from etude_proto.v1 import ExtendRequest, Lease

from ..errors import LeaseSuperseded
from ..ports.beats import BeatRequest
from ..ports.ledger import ReportKey
from .identifiers import LeaseKind
from .steps import Ground

_NAMES: dict[LeaseKind, str] = {"lease": "lease", "tb": "training batch"}


async def beat(
    ground: Ground, kind: LeaseKind, lease_id: str, body: ExtendRequest, *, call: ReportKey | None
) -> Lease:
    """Move a lease's deadline; the last call's key gets the same answer again.

    Args:
        ground: ports; heartbeats have connections of their own.
        kind: of the lease.
        lease_id: the lease.
        body: fence and time to live.
        call: what makes this the same call; None for a call of its own.

    Raises:
        LeaseNotFound: no such lease was ever issued.
        LeaseSuperseded: it ended.
        IdempotencyKeyReused: the last heartbeat had this key and another body.
    """
    context = await ground.leased_run(kind, lease_id)
    request = BeatRequest(
        kind=kind,
        lease_id=lease_id,
        fence=body.fence,
        ttl_ms=0 if body.ttl_s is None else round(1000 * body.ttl_s),
        idempotency_key=secrets.token_hex(8) if call is None else call.idempotency_key,
        body_hash="-" if call is None else call.body_hash,
    )
    done = await ground.on_run(
        context.row.id, lambda c: ground.heartbeat_races.beat(c.key, request)
    )
    if isinstance(done, str):
        raise LeaseSuperseded(f"{_NAMES[kind]} {lease_id} is {done}")
    return Lease(
        id=lease_id,
        run_id=context.row.id,
        fence=body.fence,
        deadline_ms=done.deadline_ms,
        ttl_s=done.ttl_ms / 1000,
    )
