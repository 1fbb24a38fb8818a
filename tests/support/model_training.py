"""The other half of the calls of the stateful test: training batches, acks, announced versions."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from etude_proto.cargo import unpack_frame
from etude_proto.v1 import (
    AckRequest,
    ExtendRequest,
    PolicyVersionRequest,
    ReleaseRequest,
    TrainingBatch,
    TrainingBatchRequest,
)
from etude_sampler.errors import LeaseSuperseded, VersionConflict
from etude_sampler.ports.ledger import ReportKey

from .model_machine import PromptMachine
from .model_reports import CRASH, PICK, REPLICA
from .model_run import Taken
from .model_world import Crash, When

ACK_CRASHES: list[tuple[str, When]] = [
    ("pin_training", "after"),
    ("commit_version", "before"),
    ("commit_version", "after"),
    ("untake", "after"),
    ("announce", "before"),
    ("announce", "after"),
    ("reweigh", "before"),
]
TRAINING = st.sampled_from(["take", "take", "ack", "ack", "give", "extend"])
ANNOUNCE_CRASHES = [ACK_CRASHES[1], ACK_CRASHES[2], *ACK_CRASHES[4:]]
FOLDED = ACK_CRASHES[2:]
"""Crashes that leave the version in PostgreSQL."""
ENDED = ACK_CRASHES[3:]
"""Crashes after which the training lease is over."""
TOLD = ACK_CRASHES[5:]
"""Crashes after which Redis knows the version."""


@dataclass(slots=True)
class Announcement:
    """A version of a curriculum-only run, sent at least once."""

    version: int
    key: str
    committed: bool = False
    receipt: bytes | None = None


class TrainingMachine(PromptMachine):
    """Prompt leases, reports, and what becomes of the groups."""

    def __init__(self) -> None:
        super().__init__()
        self.announcements: list[Announcement] = []

    # Training batches.

    def take(self, at: int, num: int) -> None:
        """The oldest ready groups, or none yet."""
        body = TrainingBatchRequest(trainer="t", num_groups=num)
        key = uuid.uuid4().hex
        training = self._on(at).training

        def lease() -> tuple[TrainingBatch, list[bytes]]:
            call = training.lease(self.run.id, body, idempotency_key=key, body_hash="training")
            manifest, bodies = unpack_frame(self._do(call))
            return manifest, [bytes(one) for one in bodies]

        manifest, bodies = lease()
        if manifest.lease is None:
            return
        assert lease() == (manifest, bodies), "a retry is given something else"
        found = [f"{one.lease_id}:{one.ordinal}" for one in manifest.groups]
        assert found == self.model.oldest_ready(num)
        assert [len(one) for one in bodies] == [600] * len(found)
        assert manifest.lease.fence > max(self.model.fences, default=0)
        groups = {name: self.model.ready.pop(name) for name in found}
        self.model.take(Taken(manifest.lease.id, manifest.lease.fence, groups))

    def extend_training(self, at: int, pick: int) -> None:
        """A trainer's heartbeat."""
        taken = self._pick(self.model.taken, pick)
        call = self._on(at).training.extend(taken.lease_id, ExtendRequest(fence=taken.fence))
        if taken.live:
            assert self._do(call).fence == taken.fence
        else:
            with pytest.raises(LeaseSuperseded):
                self._do(call)

    def give_back(self, at: int, pick: int, expire: bool) -> None:
        """A training lease runs out or is released: its groups are ready again."""
        taken = self._pick(self.model.training(), pick)
        training = self._on(at).training
        if expire:
            self.world.run_out(self.run.id, taken.lease_id, training=True)
            num = self._do(training.end(self.run.id, taken.lease_id, None, kind="expire"))
        else:
            body = ReleaseRequest(fence=taken.fence)
            num = self._do(training.release(taken.lease_id, body)).num_released
        assert num == len(taken.groups)
        self.model.give_back(taken)

    def _ack(self, taken: Taken, at: int, *, version: int, key: str) -> bytes:
        body = AckRequest(
            fence=taken.fence, policy_version=version, weights_uri=f"file:///w/{version}"
        )
        report_key = ReportKey(key, f"{taken.lease_id} {version}")
        return self._do(self._on(at).training.ack(taken.lease_id, body, report_key)).receipt

    def ack(self, at: int, pick: int, crash: int) -> None:
        """Settle a training batch; the first time, again, or too late; it may die anywhere."""
        model = self.model
        open_ = model.training()
        taken = self._pick(open_ if open_ and pick % 4 else model.taken, pick)
        if taken.key is None or not (taken.committed or taken.version == model.version + 1):
            taken.key, taken.version = uuid.uuid4().hex, model.version + 1
        version, key = taken.version, taken.key
        if not taken.committed and not (taken.live and taken.fence > model.trainer_fence):
            with pytest.raises(LeaseSuperseded):
                self._ack(taken, at, version=version, key=key)
            return
        if not taken.committed:
            with pytest.raises(VersionConflict):
                self._ack(taken, at, version=version + 1, key=uuid.uuid4().hex)

        def call() -> None:
            self._acked(taken, self._ack(taken, at, version=version, key=key))

        died = self._dies(ACK_CRASHES, crash, call)
        if died is None:
            return
        if died in FOLDED and not taken.committed:
            taken.committed = True
            model.fold(fence=taken.fence)
        if died in ENDED:
            taken.live = False
        if died in TOLD:
            model.announce()

    def _acked(self, taken: Taken, told: bytes) -> None:
        if not taken.committed:
            taken.committed = True
            self.model.fold(fence=taken.fence)
        assert taken.receipt in (None, told), "not the receipt of before"
        taken.receipt, taken.live = told, False
        self.model.announce()

    @precondition(lambda self: self.trains)
    @rule(at=REPLICA, pick=PICK, kind=TRAINING, crash=CRASH)
    def train(self, at: int, pick: int, kind: str, crash: int) -> None:
        """What a trainer does, or one that was overtaken."""
        if kind == "take" or not self.model.taken:
            if not self.model.ready:
                self.work(at, 1 + pick % 4, True)
            if self.model.ready:
                self.take(at, 1 + pick % 3)
        elif kind == "give" and self.model.training():
            self.give_back(at, pick, crash % 2 == 0)
        elif kind == "extend":
            self.extend_training(at, pick)
        else:
            self.ack(at, pick, crash)

    def _dies(
        self, crashes: Sequence[tuple[str, When]], crash: int, call: Callable[[], None]
    ) -> tuple[str, When] | None:
        """Run a call that may die; where it died, if it came so far."""
        self.world.trap.at = crashes[crash] if crash < len(crashes) else None
        try:
            call()
        except Crash:
            self.model.unsettled_weights = True
            return crashes[crash]
        finally:
            self.world.trap.at = None
        return None

    # Versions of a curriculum-only run.

    @precondition(lambda self: not self.trains)
    @rule(at=REPLICA, pick=PICK, crash=CRASH)
    def announce(self, at: int, pick: int, crash: int) -> None:
        """The next version, or one of before once more; it may die anywhere."""
        model = self.model
        known = [one for one in self.announcements if one.committed]
        if pick % 3 or not known:
            one = Announcement(model.version + 1, uuid.uuid4().hex)
            self.announcements.append(one)
        else:
            one = self._pick(known, pick)

        def call() -> None:
            body = PolicyVersionRequest(policy_version=one.version)
            key = ReportKey(one.key, str(one.version))
            told = self._do(self._on(at).training.announce(self.run.id, body, key)).receipt
            self._fold(one)
            assert one.receipt in (None, told), "not the receipt of before"
            one.receipt = told
            model.announce()

        died = self._dies(ANNOUNCE_CRASHES, crash, call)
        if died in FOLDED:
            self._fold(one)
        if died in TOLD:
            model.announce()

    def _fold(self, one: Announcement) -> None:
        if not one.committed:
            one.committed = True
            self.model.fold()
