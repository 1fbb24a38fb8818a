"""The stateful test's run, its draws and its prompt leases, played by hypothesis on real servers.

Each rule makes one call on one of two replicas and tells the model what must have come of it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from etude_proto.v1 import (
    CurriculumConfig,
    ExtendRequest,
    PromptBatch,
    PromptBatchRequest,
    ReleaseRequest,
    RunMode,
)
from etude_sampler.errors import IdempotencyKeyReused, LeaseSuperseded
from etude_sampler.service.sampler import Sampler

from .model_checks import Checks
from .model_reports import (
    CRASH,
    PICK,
    POOL_CRASHES,
    REPLICA,
    hashed,
)
from .model_run import Held, RunModel
from .model_world import LIMITS, NUM_TASKS, Crash, World

T = TypeVar("T")


class LeaseMachine(RuleBasedStateMachine):
    """Draws and prompt leases; `model_machine` adds reports."""

    world: World
    runner: asyncio.Runner
    mode: RunMode
    curriculum = CurriculumConfig(preset="dscl")

    def _do(self, call: Coroutine[object, object, T]) -> T:
        return self.runner.run(call)

    @initialize(
        mode=st.sampled_from([RunMode.TRAINING, RunMode.TRAINING, RunMode.CURRICULUM_ONLY]),
        seed=st.integers(0, 2**32),
    )
    def begin(self, mode: RunMode, seed: int) -> None:
        """A run with everyone waiting."""
        self.run = self._do(self.world.create_run(self.mode, seed, self.curriculum))
        self.world.trap.at = None
        self.model = RunModel(NUM_TASKS, LIMITS.cap, LIMITS.max_staleness)
        self.checks = Checks(
            self.run,
            self.model,
            self.world.query,
            self.world.database_url,
            self.world.redis_url,
            LIMITS.leases_per_worker,
            LIMITS.cargo_bytes,
        )
        self.trains = self.mode is RunMode.TRAINING

    def _on(self, replica: int) -> Sampler:
        return self.world.replicas[replica]

    # Drawing.

    def _draw(self, at: int, *, num: int, worker: str, key: str) -> PromptBatch:
        body = PromptBatchRequest(num_tasks=num, worker=worker)
        told = self._do(
            self._on(at).prompts.lease(
                self.run.id, body, idempotency_key=key, body_hash=hashed(num, worker)
            )
        )
        return PromptBatch.model_validate_json(told)

    @rule(at=REPLICA, num=st.integers(1, 5), worker=st.sampled_from(["w0", "w1"]), crash=CRASH)
    def draw(self, at: int, num: int, worker: str, crash: int) -> None:
        """New tasks, as many as there is room for; sometimes the answer is lost on the way."""
        key, model = uuid.uuid4().hex, self.model
        waiting, room = len(model.waiting), model.room()
        live = sum(held.worker == worker for held in model.live())
        want = 0 if live >= LIMITS.leases_per_worker else max(0, min(num, waiting, room))
        pooled = self.run.resolved.pool is not None and want > 0
        crashes = POOL_CRASHES if pooled else POOL_CRASHES[:1]
        if crash < len(crashes):
            self.world.trap.at = crashes[crash]
            with pytest.raises(Crash):
                self._draw(at, num=num, worker=worker, key=key)
            if pooled and num == 1:
                self.abandon(1 - at)
            at = 1 - at
        batch = self._draw(at, num=num, worker=worker, key=key)
        assert len(batch.items) == want
        if batch.lease is None:
            return
        assert batch.policy_version == model.announced
        assert batch.lease.fence > max(model.fences, default=0)
        inside = {item.task.ordinal for item in batch.items}
        assert inside <= model.waiting
        model.drawn(Held(batch, key, worker, num, waiting, inside))

    def abandon(self, at: int) -> None:
        """Nobody comes back for the candidates; they run out, and all of them wait again."""
        known = {held.id for held in self.model.live()}
        (lease_id,) = {*self.world.leases(self.run.id)} - known
        self.world.run_out(self.run.id, lease_id)
        assert self._do(self._on(at).prompts.end(self.run.id, lease_id, None, kind="expire")) > 0
        self.checks.all()

    def draw_again(self, at: int, pick: int) -> None:
        """The same key: what is left of the same lease. Another body: refused."""
        held = self._pick(self.model.live(), pick)
        again = self._draw(at, num=held.num_tasks, worker=held.worker, key=held.key)
        assert again.lease is not None
        assert (again.lease.id, again.lease.fence) == (held.id, held.fence)
        items = {item.task.ordinal: item for item in held.batch.items}
        assert {item.task.ordinal for item in again.items} == held.inside
        assert all(item == items[item.task.ordinal] for item in again.items)
        with pytest.raises(IdempotencyKeyReused):
            self._draw(at, num=held.num_tasks + 1, worker=held.worker, key=held.key)

    @staticmethod
    def _pick(some: list[T], pick: int) -> T:
        return some[pick % len(some)]

    # Leases.

    def extend(self, at: int, pick: int) -> None:
        """A heartbeat: of a live lease only."""
        held = self._pick(self.model.leases, pick)
        call = self._on(at).prompts.extend(held.id, ExtendRequest(fence=held.fence))
        if held.live:
            assert self._do(call).fence == held.fence
        else:
            with pytest.raises(LeaseSuperseded):
                self._do(call)

    def release(self, at: int, pick: int) -> None:
        """Give back what was not reported."""
        held = self._pick(self.model.leases, pick)
        call = self._on(at).prompts.release(held.id, ReleaseRequest(fence=held.fence))
        if held.live:
            assert self._do(call).num_released == len(held.inside)
            self.model.back(held, set(held.inside))
        else:
            with pytest.raises(LeaseSuperseded):
                self._do(call)

    def expire(self, at: int, pick: int, crash: int) -> None:
        """A deadline passes, and any replica notices; not before."""
        held = self._pick(self.model.live(), pick)
        end = self._on(at).prompts.end
        assert self._do(end(self.run.id, held.id, None, kind="expire")) == 0, "it is live"
        self.world.run_out(self.run.id, held.id)
        if crash == 0:
            self.world.trap.at = ("settle", "before")
            with pytest.raises(Crash):
                self._do(end(self.run.id, held.id, None, kind="expire"))
            end = self._on(1 - at).prompts.end
        assert self._do(end(self.run.id, held.id, None, kind="expire")) == len(held.inside)
        self.model.back(held, set(held.inside))

    @precondition(lambda self: self.model.leases)
    @rule(at=REPLICA, pick=PICK, kind=st.sampled_from(["extend", "release", "expire"]), crash=CRASH)
    def end(self, at: int, pick: int, kind: str, crash: int) -> None:
        """A lease is kept alive, given back, or runs out."""
        if kind == "expire" and self.model.live():
            self.expire(at, pick, crash)
        elif kind == "release":
            self.release(at, pick)
        else:
            self.extend(at, pick)
