"""Scripted trainers of a storm, who compete for batches, and the announcer of a run without one."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass

import httpx

from etude_proto.cargo import unpack_frame
from etude_proto.v1 import (
    AckRequest,
    ExtendRequest,
    Lease,
    PolicyVersionRequest,
    ReleaseRequest,
    Run,
    TrainingBatchRequest,
)

from .storm_clients import json_sent
from .storm_diary import Caller, Diary, Sent, http_client
from .waiting import pass_time

_SUPERSEDED = ("lease_superseded",)


async def version_of(caller: Caller, run_id: str) -> int | None:
    """The run's policy version, if a replica says it now."""
    try:
        response = await caller.http.get(f"{caller.rng.choice(caller.urls)}/v1/runs/{run_id}")
    except httpx.HTTPError:
        return None
    if response.status_code != 200:
        return None
    return Run.model_validate_json(response.content).policy_version


@dataclass(slots=True)
class Trainer:
    """Takes batches, checks their bytes, steps, acks; sometimes too late, sometimes never."""

    name: str
    run: Run
    caller: Caller
    diary: Diary
    rng: random.Random
    stop: asyncio.Event

    async def train(self) -> None:
        """Until told to stop."""
        async with http_client() as http:
            self.caller.http = http
            while not self.stop.is_set():
                await self._batch()

    async def _batch(self) -> None:
        request = TrainingBatchRequest(trainer=self.name, wait_s=0.5)
        path = f"/v1/runs/{self.run.id}/training-batches"
        sent = await self.caller.send(
            json_sent("take", self.run.id, path, request.model_dump_json())
        )
        if not sent.acknowledged:
            return
        manifest, views = unpack_frame(sent.content)
        if manifest.lease is None:
            await pass_time(self.rng.uniform(0.05, 0.2))
            return
        names = tuple(f"{ref.lease_id}:{ref.ordinal}" for ref in manifest.groups)
        for name, view in zip(names, views, strict=True):
            if hashlib.sha256(view).hexdigest() != self.diary.digests.get(name):
                self.diary.fault(f"group {name} is trained on bytes that nobody sent")
        lease = manifest.lease
        self.diary.taken[lease.id] = tuple(
            f"{name}, replay {ref.num_replays}"
            for name, ref in zip(names, manifest.groups, strict=True)
        )
        what = self.rng.choices(["ack", "oversleep", "abandon", "release"], [80, 8, 6, 6])[0]
        self.diary.counts[f"training batches: {what}"] += 1
        if what == "abandon":
            return
        if what == "release":
            body = ReleaseRequest(fence=lease.fence).model_dump_json()
            await self._other(f"/v1/training-batches/{lease.id}/release", body)
            return
        if what == "oversleep":
            await pass_time(lease.ttl_s * self.rng.uniform(0.9, 2.0))
        else:
            body = ExtendRequest(fence=lease.fence).model_dump_json()
            await self._other(f"/v1/training-batches/{lease.id}/extend", body)
            await pass_time(self.rng.uniform(0.0, 0.3))
        await self._ack(lease, manifest.policy_version + 1)

    async def _other(self, path: str, body: str) -> None:
        sent = json_sent("other", self.run.id, path, body)
        await self.caller.send(sent, expected=_SUPERSEDED)

    async def _ack(self, lease: Lease, version: int) -> None:
        """Ack; a version that somebody else announced meanwhile is followed by the next."""
        for _ in range(4):
            request = AckRequest(
                fence=lease.fence, policy_version=version, weights_uri=f"file:///w/{version}"
            )
            path = f"/v1/training-batches/{lease.id}/ack"
            sent = json_sent("ack", self.run.id, path, request.model_dump_json())
            self.diary.sent.append(sent)
            await self.caller.send(sent, expected=(*_SUPERSEDED, "version_conflict"))
            if sent.code != "version_conflict":
                return
            found = await version_of(self.caller, self.run.id)
            version = version if found is None else found + 1


@dataclass(slots=True)
class Announcer:
    """The framework of a curriculum-only run: a version now and then."""

    run: Run
    caller: Caller
    diary: Diary
    rng: random.Random
    stop: asyncio.Event

    async def announce(self) -> None:
        """Until told to stop."""
        async with http_client() as http:
            self.caller.http = http
            while not self.stop.is_set():
                await pass_time(self.rng.uniform(0.3, 1.5))
                version = await version_of(self.caller, self.run.id)
                if version is not None:
                    await self._announce(version + 1)

    async def _announce(self, version: int) -> Sent:
        body = PolicyVersionRequest(policy_version=version).model_dump_json()
        path = f"/v1/runs/{self.run.id}/policy-versions"
        sent = json_sent("announce", self.run.id, path, body)
        self.diary.sent.append(sent)
        return await self.caller.send(sent, expected=("version_conflict",))
