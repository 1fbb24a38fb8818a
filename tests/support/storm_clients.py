"""Scripted rollout workers of a storm: lease, roll out, report, be late, give back, vanish."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from etude_proto.cargo import SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import (
    ExtendRequest,
    Lease,
    PromptBatch,
    PromptBatchRequest,
    PromptItem,
    ReleaseRequest,
    Report,
    Run,
)

from .storm_diary import Caller, Diary, Kind, Sent, http_client, new_key
from .waiting import pass_time
from .workload import cargo, group, rolled_out

GROUP_SIZE = 4
JSON = "application/json"
REPORT_REFUSALS = ("lease_superseded",)


def json_sent(kind: Kind, run_id: str, path: str, body: str, *, key: str = "") -> Sent:
    """A request with a JSON body."""
    return Sent(kind, path, key or new_key(), body.encode(), JSON, run_id)


def report_json(fence: int, items: Sequence[PromptItem], version: int) -> str:
    """Outcomes of some tasks, as the policy of that version has them."""
    groups = [
        group(
            item.task.id,
            rolled_out(item.task.id, item.task.subtasks, version=version, group_size=GROUP_SIZE),
        )
        for item in items
    ]
    return Report(fence=fence, groups=groups).model_dump_json()


@dataclass(slots=True)
class Worker:
    """One rollout worker with its own chance."""

    name: str
    run: Run
    caller: Caller
    diary: Diary
    rng: random.Random
    stop: asyncio.Event
    with_tokens: bool

    async def work(self) -> None:
        """Until told to stop; what was leased is always brought to an end."""
        async with http_client() as http:
            self.caller.http = http
            while not self.stop.is_set():
                batch = await self._lease()
                if batch is not None and batch.lease is not None:
                    await self._handle(batch, batch.lease)

    async def _lease(self) -> PromptBatch | None:
        request = PromptBatchRequest(
            num_tasks=self.rng.randint(1, 4), worker=self.name, wait_s=self.rng.choice([0, 0.5])
        )
        path = f"/v1/runs/{self.run.id}/prompt-batches"
        sent = json_sent("lease", self.run.id, path, request.model_dump_json())
        await self.caller.send(sent)
        if not sent.acknowledged:
            return None
        batch = PromptBatch.model_validate_json(sent.content)
        if batch.lease is None:
            await pass_time(self.rng.uniform(0.05, 0.2))
            return None
        ordinals = tuple(item.task.ordinal for item in batch.items)
        self.diary.leases[batch.lease.id] = (batch.lease, ordinals)
        return batch

    async def _handle(self, batch: PromptBatch, lease: Lease) -> None:
        what = self.rng.choices(
            ["report", "partly", "oversleep", "abandon", "release"], [70, 10, 8, 6, 6]
        )[0]
        self.diary.counts[f"batches: {what}"] += 1
        if what == "abandon":
            return
        if what == "oversleep":
            await pass_time(lease.ttl_s * self.rng.uniform(0.9, 2.0))
        elif self.rng.random() < 0.3:
            await self._beat(lease)
        await pass_time(self.rng.uniform(0.0, 0.3))
        items = list(batch.items)
        if what == "partly":
            items = items[: len(items) // 2]
        if what != "release" and items:
            await self._report(batch, lease, items)
        if what in ("release", "partly"):
            await self._release(lease)

    async def _beat(self, lease: Lease) -> None:
        body = ExtendRequest(fence=lease.fence).model_dump_json()
        path = f"/v1/leases/{lease.id}/extend"
        sent = json_sent("other", self.run.id, path, body)
        await self.caller.send(sent, expected=("lease_superseded",))

    async def _release(self, lease: Lease) -> None:
        body = ReleaseRequest(fence=lease.fence).model_dump_json()
        path = f"/v1/leases/{lease.id}/release"
        sent = json_sent("other", self.run.id, path, body)
        await self.caller.send(sent, expected=("lease_superseded",))

    async def _report(self, batch: PromptBatch, lease: Lease, items: list[PromptItem]) -> None:
        path = f"/v1/leases/{lease.id}/groups"
        calls = []
        if self.with_tokens and self.rng.random() < 0.8:
            for item in items:
                body = cargo(
                    lease.fence,
                    item.task.id,
                    [float(self.rng.random() < 0.5) for _ in range(GROUP_SIZE)],
                    version=batch.policy_version,
                )
                self.diary.digests[f"{lease.id}:{item.task.ordinal}"] = hashlib.sha256(
                    body
                ).hexdigest()
                calls.append(
                    Sent("report", path, new_key(), body, SAFETENSORS_MEDIA_TYPE, self.run.id)
                )
        else:
            text = report_json(lease.fence, items, batch.policy_version)
            calls.append(json_sent("report", self.run.id, path, text))
        for sent in calls:
            self.diary.sent.append(sent)
            await self.caller.send(sent, expected=REPORT_REFUSALS)


def changed(sent: Sent) -> bytes | None:
    """Another body: the first outcome's success turned round; None for tensors."""
    if sent.content_type != JSON or sent.kind != "report":
        return None
    report = json.loads(sent.body)
    first = report["groups"][0]["attempts"][0]["outcomes"][0]
    first["success"] = not first["success"]
    return json.dumps(report).encode()


def stale(sent: Sent) -> bytes | None:
    """The same outcomes under the fence before; None for tensors."""
    if sent.content_type != JSON or sent.kind != "report":
        return None
    report = json.loads(sent.body)
    return json.dumps({**report, "fence": report["fence"] - 1}).encode()
