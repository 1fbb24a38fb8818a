"""Prompt batches: draw and lease, heartbeat, give back."""

from __future__ import annotations

import asyncio
import json

from etude_proto.v1 import (
    Arm,
    DegradedReason,
    ExtendRequest,
    Lease,
    PromptBatchRequest,
    Released,
    ReleaseRequest,
)

from ..errors import DependencyUnavailable, LeaseSuperseded, PayloadInvalid, SamplerError
from ..ports.ledger import ReportKey
from ..ports.races import Announced, DrawRequest, NoTasks, PromptLease
from .allotting import allot, item_fields, rollouts_of
from .context import RunContext
from .demonstrating import Demonstrator
from .entering import enter, unpack_records
from .heartbeats import beat
from .helping import Helper
from .identifiers import new_lease_id
from .pooling import draw
from .steps import Ground
from .weighing import announced_version, weights_now

_REASONS = {
    "paused": DegradedReason.RUN_PAUSED,
    "worker_limit": DegradedReason.WORKER_LIMIT,
    "empty": DegradedReason.NOTHING_WAITING,
    "full": DegradedReason.QUEUE_FULL,
}


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class LedgerBusy(SamplerError):
    """Reports of this run are in flight: its expiries come again, other runs' go on."""


def _not_ended(why: str, lease_id: str, *, kind: str) -> int:
    """Nothing left to give back: no matter for an expiry, an error for a release."""
    if kind == "expire":
        return 0
    raise LeaseSuperseded(f"lease {lease_id} is {why}")


def _lane_heads(context: RunContext) -> list[bytes]:
    """What the items of a lane have in common, encoded once a batch, without the braces."""
    return [
        _dumps(
            {
                "lane": name,
                "arm": Arm.CONTROL if lane == 0 else Arm.CURRICULUM,
            }
        )[1:-1]
        for lane, name in enumerate(context.curriculum.lane_names)
    ]


class PromptBatches:
    """The steps of a prompt lease, up to its report."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._helper = Helper(ground)
        self._demonstrator = Demonstrator(ground)

    async def lease(
        self, run_id: str, body: PromptBatchRequest, *, idempotency_key: str, body_hash: str
    ) -> bytes:
        """Draw and lease, waiting up to `wait_s`; a `PromptBatch`, encoded.

        A repeated key returns the same lease until it is settled.
        """
        ground = self._ground
        context = await ground.contexts.get(run_id)
        limits = context.row.spec.limits
        if body.num_tasks > limits.max_batch_tasks:
            raise PayloadInvalid.at(
                "/num_tasks", f"at most {limits.max_batch_tasks} (limits.max_batch_tasks)"
            )
        request = DrawRequest(
            num_tasks=body.num_tasks,
            lease_id=new_lease_id("lease", run_id, context.row.secret),
            worker=body.worker,
            ttl_ms=round(1000 * (body.ttl_s or limits.lease_ttl_s)),
            idempotency_key=idempotency_key,
            body_hash=body_hash,
        )
        loop = asyncio.get_running_loop()
        give_up = loop.time() + body.wait_s
        while True:
            ticket = ground.bells.ticket(run_id)
            found = await ground.on_run(run_id, lambda c: self._draw(c, request))
            if isinstance(found, PromptLease):
                return await self._encode(await ground.contexts.get(run_id), found, body)
            left = give_up - loop.time()
            if left <= 0 or ground.bells.closed:
                return self._empty(context, found)
            await ground.bells.wait(ticket, min(left, 5.0))

    async def _draw(self, context: RunContext, request: DrawRequest) -> PromptLease | NoTasks:
        """Draw, choose and allot: the batch as every repeated call finds it."""
        return await allot(self._ground, context, await draw(self._ground, context, request))

    def _head(
        self, context: RunContext, announced: Announced, reason: DegradedReason | None
    ) -> dict[str, object]:
        return {
            "degraded": reason is not None,
            "degraded_reason": reason,
            "policy_version": announced.version,
            "weights_uri": announced.weights_uri,
            "component_weights": json.loads(announced.component_weights_json),
            "reward": context.row.spec.reward.model_dump(mode="json"),
            "credit": context.row.spec.credit.model_dump(mode="json"),
            "wants_completions": context.curriculum.hard is not None,
        }

    def _empty(self, context: RunContext, found: NoTasks) -> bytes:
        head = self._head(context, found.announced, _REASONS[found.reason])
        return _dumps({"lease": None, "items": [], **head})

    async def _encode(
        self, context: RunContext, lease: PromptLease, body: PromptBatchRequest
    ) -> bytes:
        """The batch as bytes: tasks' bodies are joined as they were encoded at import."""
        ordinals = [drawn.ordinal for drawn in lease.drawn]
        rows = await self._ground.tasks.by_ordinals(context.row.spec.dataset_id, ordinals)
        num = len(lease.drawn) if lease.num_kept is None else lease.num_kept
        short = num < body.num_tasks and (lease.num_kept is not None or not lease.replayed)
        reason = None
        if short:
            nothing_left = lease.num_waiting <= num
            reason = DegradedReason.NOTHING_WAITING if nothing_left else DegradedReason.QUEUE_FULL
        head = self._head(context, lease.announced, reason)
        model = Lease(
            id=lease.lease_id,
            run_id=context.row.id,
            fence=lease.fence,
            deadline_ms=lease.deadline_ms,
            ttl_s=lease.ttl_ms / 1000,
        )
        heads = _lane_heads(context)
        rolls = rollouts_of(context, lease)
        numbers = [roll.num_rollouts for roll in rolls]
        helps = await self._helper.help(context, lease, rows, numbers)
        helps = await self._demonstrator.guide(context, lease, rows, helps)
        items = b",".join(
            b'{"task":%b,%b,%b,%b,"weight":%r,"slot_probability":%r,"entry":%d}'
            % (
                *(row.body, item_fields(roll), heads[one.lane], help_),
                *(one.weight_micro / 1e6, one.slot_probability, one.entry),
            )
            for one, row, roll, help_ in zip(lease.drawn, rows, rolls, helps, strict=True)
        )
        lease_json = model.model_dump_json().encode()
        return b'{"lease":%b,"items":[%b],%b' % (lease_json, items, _dumps(head)[1:])

    async def extend(
        self, lease_id: str, body: ExtendRequest, call: ReportKey | None = None
    ) -> Lease:
        """Heartbeat. Raises as `heartbeats.beat`."""
        return await beat(self._ground, "lease", lease_id, body, call=call)

    async def release(self, lease_id: str, body: ReleaseRequest) -> Released:
        """Give back the tasks not yet reported. Raises as `extend`."""
        context = await self._ground.leased_run("lease", lease_id)
        num = await self.end(context.row.id, lease_id, body.fence, kind="release")
        return Released(lease_id=lease_id, num_released=num)

    async def end(self, run_id: str, lease_id: str, fence: int | None, *, kind: str) -> int:
        """Put a lease's remaining tasks back into their lanes: fresh draws, weights of today.

        Used by releases (with the fence) and by expiry (without; a live lease stays). Sealed in
        Redis, then ended in the ledger, then settled: a report that was pinned before either
        commits before the tasks can be leased again, or never.
        """
        ground = self._ground

        async def step(context: RunContext) -> int:
            sealed = await ground.races.seal_lease(context.key, lease_id, fence)
            if isinstance(sealed, str):
                return _not_ended(sealed, lease_id, kind=kind)
            if not await ground.ledger.end_lease(context.row.id, lease_id):
                why = "the run's ledger is locked; the lease ends soon"
                raise LedgerBusy(why) if kind == "expire" else DependencyUnavailable(why)
            drawn = await ground.races.lease_tasks(context.key, lease_id)
            ordinals = [one.ordinal for one in drawn]
            records = await ground.races.entries(context.key, ordinals)
            known = [record for record in records if record is not None]
            items = []
            if len(known) == len(ordinals) and known:
                version = await announced_version(ground, context)
                weights_NL = await weights_now(ground, context, ordinals, version=version)
                entries_N, _ = unpack_records(known)
                items = enter(context, ordinals, [int(e) + 1 for e in entries_N], weights_NL)
            settled = await ground.races.settle(
                context.key, lease_id, sealed, kind=kind, items=items
            )
            return settled[0] if isinstance(settled, tuple) else 0

        return await ground.on_run(run_id, step)
