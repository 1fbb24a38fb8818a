"""Heartbeats of both kinds of lease in Redis. The lease remembers the last one's key."""

from __future__ import annotations

from ...errors import IdempotencyKeyReused
from ...ports.beats import Beat, BeatRequest
from ...ports.races import LeaseEnd, RunKey
from .keys import RunKeys
from .scripts import Scripts


class HeartbeatSteps:
    """The heartbeats of `ports.races.Races`."""

    _scripts: Scripts

    async def beat(self, run: RunKey, request: BeatRequest) -> Beat | LeaseEnd:
        """Move a lease's deadline; a repeated key gets the same one.

        Raises:
            IdempotencyKeyReused: the key came with another body.
        """
        keys = RunKeys(run.run_id)
        reply = await self._scripts.call(
            "beat",
            run.epoch,
            [
                keys.meta,
                keys.training_leases if request.kind == "tb" else keys.leases,
                keys.lease(request.lease_id),
            ],
            [
                request.lease_id,
                request.fence,
                request.ttl_ms,
                request.idempotency_key,
                request.body_hash,
            ],
        )
        if reply[0] == b"reused":
            raise IdempotencyKeyReused
        if reply[0] != b"ok":
            return "gone" if reply[0] == b"gone" else "superseded"
        return Beat(int(reply[1]), int(reply[2]))
