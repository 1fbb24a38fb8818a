"""Training batches: lease ready groups, heartbeat, ack, give back."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

from etude_proto.cargo import pack_frame
from etude_proto.v1 import (
    AckRequest,
    DegradedReason,
    ExtendRequest,
    Lease,
    PolicyVersionRequest,
    Released,
    ReleaseRequest,
    RunMode,
    TrainingBatchRequest,
)

from ..errors import IllegalTransition, LeaseSuperseded, PayloadInvalid
from ..ports.ledger import Receipted, ReportKey
from ..ports.races import LeaseEnd, NoGroups, TakeRequest, TrainingLease
from .banking import replay_lines, rule_of
from .context import RunContext
from .heartbeats import beat
from .identifiers import new_lease_id
from .steps import Ground
from .versions import Versions


class TrainingBatches:
    """The steps of a training lease."""

    def __init__(self, ground: Ground, versions: Versions) -> None:
        self._ground = ground
        self._versions = versions

    async def lease(
        self, run_id: str, body: TrainingBatchRequest, *, idempotency_key: str, body_hash: str
    ) -> bytes:
        """Lease a full batch, or what there is once refill is spent; waits up to `wait_s`.

        Returns:
            One frame: the `TrainingBatch` manifest, then the groups' bodies, unparsed.
        """
        ground = self._ground
        context = await ground.contexts.get(run_id)
        if context.row.spec.mode is not RunMode.TRAINING:
            raise IllegalTransition("a curriculum-only run has no training batches")
        limits = context.row.spec.limits
        wanted = body.num_groups or limits.training_batch_groups
        cap = limits.cap_in(context.row.spec.mode)
        if 2 * wanted > cap:
            raise PayloadInvalid.at(
                "/num_groups", f"at most {cap // 2}: the cap must hold two training batches"
            )
        request = TakeRequest(
            num_groups=wanted,
            refill_limit=context.refill_limit,
            lease_id=new_lease_id("tb", run_id, context.row.secret),
            ttl_ms=round(1000 * (body.ttl_s or limits.training_lease_ttl_s)),
            idempotency_key=idempotency_key,
            body_hash=body_hash,
        )
        loop = asyncio.get_running_loop()
        give_up = loop.time() + body.wait_s
        while True:
            ticket = ground.bells.ticket(run_id)
            found = await ground.on_run(run_id, lambda c: self._take(c, request))
            if isinstance(found, bytes):
                return found
            left = give_up - loop.time()
            if found.reason == "exhausted" or left <= 0 or ground.bells.closed:
                return _empty_frame(found)
            await ground.bells.wait(ticket, min(left, 5.0))

    async def _take(self, context: RunContext, request: TakeRequest) -> bytes | NoGroups:
        found = await self._ground.races.take(context.key, request)
        if isinstance(found, NoGroups):
            return found
        bodies = await self._ground.races.bodies(
            context.key, [one.group_id for one in found.groups]
        )
        return await asyncio.to_thread(_frame, context.row.id, found, bodies)

    async def extend(
        self, lease_id: str, body: ExtendRequest, call: ReportKey | None = None
    ) -> Lease:
        """Heartbeat. Raises as `heartbeats.beat`."""
        return await beat(self._ground, "tb", lease_id, body, call=call)

    async def ack(self, lease_id: str, body: AckRequest, key: ReportKey) -> Receipted:
        """Settle a batch and announce its version; the encoded `AckReceipt`.

        PostgreSQL first: pin, fold and store the version, then settle and announce in Redis. A
        retry repeats the last two and returns the stored receipt.

        Raises:
            LeaseNotFound, LeaseSuperseded: the trainer does not hold the batch any more.
            VersionConflict: not the next version.
        """
        ground = self._ground
        context = await ground.leased_run("tb", lease_id)
        run_id = context.row.id
        pinned = await ground.on_run(
            run_id,
            lambda c: ground.races.pin_training(c.key, lease_id, body.fence, ttl_ms=ground.pin_ms),
        )
        if isinstance(pinned, str):
            stored = await ground.ledger.receipt(run_id, key)
            if stored is None:
                raise LeaseSuperseded(f"training batch {lease_id} is {pinned}")
            receipt = Receipted(stored, replayed=True)
        else:
            replays = await replay_lines(
                ground, run_id, lease_id, fence=body.fence, policy_version=body.policy_version - 1
            )
            receipt = await self._versions.commit(
                await ground.contexts.get(run_id),
                key,
                version=body.policy_version,
                weights_uri=body.weights_uri,
                metrics=body.metrics,
                fence=body.fence,
                mark=body.checkpoint,
                replays=replays,
            )
            await ground.on_run(run_id, lambda c: self._untake(c, lease_id, body.fence, "ack"))
        await self._versions.announce(run_id)
        return receipt

    async def release(self, lease_id: str, body: ReleaseRequest) -> Released:
        """Give a batch back untrained; its groups are ready again."""
        context = await self._ground.leased_run("tb", lease_id)
        num = await self.end(context.row.id, lease_id, body.fence, kind="release")
        return Released(lease_id=lease_id, num_released=num)

    async def end(self, run_id: str, lease_id: str, fence: int | None, *, kind: str) -> int:
        """Return a training lease's groups to the ready queue (release or expiry)."""
        ground = self._ground
        ended = await ground.on_run(run_id, lambda c: self._untake(c, lease_id, fence, kind))
        if isinstance(ended, tuple):
            return ended[0]
        if kind == "expire":
            return 0
        raise LeaseSuperseded(f"training batch {lease_id} is {ended}")

    async def _untake(
        self, context: RunContext, lease_id: str, fence: int | None, kind: str
    ) -> tuple[int, int] | LeaseEnd | Literal["live"]:
        bank = rule_of(context)
        return await self._ground.races.untake(context.key, lease_id, fence, kind=kind, bank=bank)

    async def announce(self, run_id: str, body: PolicyVersionRequest, key: ReportKey) -> Receipted:
        """Announce a version of a curriculum-only run; the encoded `AckReceipt`."""
        context = await self._ground.contexts.get(run_id)
        if context.row.spec.mode is not RunMode.CURRICULUM_ONLY:
            raise IllegalTransition("this run's versions are announced by acks of training batches")
        receipt = await self._versions.commit(
            context,
            key,
            version=body.policy_version,
            weights_uri=body.weights_uri,
            metrics=body.metrics,
            fence=None,
            mark=body.checkpoint,
        )
        await self._versions.announce(run_id)
        return receipt


def _manifest(
    found: NoGroups | TrainingLease,
    *,
    lease: object,
    groups: list[object],
    reason: DegradedReason | None,
) -> bytes:
    return json.dumps(
        {
            "lease": lease,
            "groups": groups,
            "degraded": reason is not None,
            "degraded_reason": reason,
            "policy_version": found.version,
            "num_groups_drawn": found.num_groups_drawn,
        },
        separators=(",", ":"),
    ).encode()


def _empty_frame(found: NoGroups) -> bytes:
    exhausted = found.reason == "exhausted"
    reason = DegradedReason.REFILL_EXHAUSTED if exhausted else DegradedReason.NOT_READY
    return pack_frame(_manifest(found, lease=None, groups=[], reason=reason), [])


def _frame(run_id: str, found: TrainingLease, bodies: list[bytes]) -> bytes:
    """Manifest and bodies joined; runs in a thread, for a batch can be large."""
    groups: list[object] = []
    offset = 0
    for one, body in zip(found.groups, bodies, strict=True):
        entry = {**json.loads(one.manifest), "offset": offset, "num_replays": one.num_replays}
        groups.append(entry)
        offset += len(body)
    lease = Lease(
        id=found.lease_id,
        run_id=run_id,
        fence=found.fence,
        deadline_ms=found.deadline_ms,
        ttl_s=found.ttl_ms / 1000,
    ).model_dump(mode="json")
    reason = DegradedReason.REFILL_EXHAUSTED if found.short else None
    return pack_frame(_manifest(found, lease=lease, groups=groups, reason=reason), bodies)
