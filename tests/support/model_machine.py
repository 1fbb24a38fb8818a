"""Half of the stateful test: prompt leases and reports, played by hypothesis on real servers.

Each rule makes one call on one of two replicas and tells the model what must have come of it.
"""

from __future__ import annotations

import uuid

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from etude_proto.v1 import (
    GateVerdict,
    GroupReport,
    Receipt,
    Report,
)
from etude_sampler.errors import IdempotencyKeyReused, LeaseSuperseded, TaskNotLeased
from etude_sampler.service.reports import Incoming

from .model_leases import LeaseMachine
from .model_reports import (
    CRASH,
    NO_CRASH,
    PICK,
    REPLICA,
    REPORT_COMMITTED,
    REPORT_CRASHES,
    SHAPE,
    attempts,
    key_of,
)
from .model_run import Held, Sent
from .model_world import Crash


class PromptMachine(LeaseMachine):
    """Everything about prompt leases and reports; `tests/chaos/test_model.py` adds the rest."""

    def _send(self, sent: Sent, at: int, *, other: bool = False) -> bytes:
        incoming = Incoming(sent.held.id, sent.report, key_of(sent, other=other), sent.cargo)
        return self._do(self._on(at).reports.report(incoming)).receipt

    def _make(self, held: Held, ordinals: list[int], shape: str, *, cargo: bool = False) -> Sent:
        items = {item.task.ordinal: item.task for item in held.batch.items}
        version = held.batch.policy_version
        groups = [
            GroupReport(
                task_id=items[o].id, attempts=attempts(shape, list(items[o].subtasks), version)
            )
            for o in ordinals
        ]
        body = bytes([len(self.model.sent) % 256]) * 600 if cargo else None
        report = Report(fence=held.fence, groups=groups)
        return Sent(held, report, ordinals, uuid.uuid4().hex, body)

    def _settled(self, sent: Sent, told: bytes) -> None:
        """The report's tasks are back, as its receipt says."""
        receipt = Receipt.model_validate_json(told)
        rows = [
            self.model.rows[sent.held.id, ordinal, a.scaffold_kind, a.scaffold_level, a.number]
            for ordinal, group in zip(sent.ordinals, receipt.groups, strict=True)
            for a in group.attempts
        ]
        assert [a.verdict for group in receipt.groups for a in group.attempts] == rows
        admitted = {
            ordinal
            for ordinal, group in zip(sent.ordinals, receipt.groups, strict=True)
            if group.gate is GateVerdict.ADMITTED
        }
        assert not admitted or sent.cargo is not None
        self.model.settle(sent, admitted)

    def _acknowledged(self, sent: Sent, told: bytes) -> None:
        """A receipt arrived: the report is committed and settled."""
        if not sent.committed:
            self.model.commit(sent)
        assert sent.receipt in (None, told), "not the receipt of before"
        sent.receipt = told
        self._settled(sent, told)

    def _free(self, held: Held) -> list[int]:
        """Tasks of a lease that no transaction has reported."""
        return sorted(task for task in held.inside if (held.id, task) not in self.model.orders)

    @precondition(lambda self: any(self._free(held) for held in self.model.live()))
    @rule(at=REPLICA, pick=PICK, shape=SHAPE, tokens=st.booleans(), crash=CRASH)
    def report(self, at: int, pick: int, shape: str, tokens: bool, crash: int) -> None:
        """Some tasks of a live lease, as JSON, or one with trajectories; it may die anywhere."""
        held = self._pick([held for held in self.model.live() if self._free(held)], pick)
        free, cargo = self._free(held), tokens and self.trains
        num = 1 if cargo else 1 + pick % len(free)
        sent = self._make(held, free[:num], shape, cargo=cargo)
        self.model.sent.append(sent)
        if crash >= len(REPORT_CRASHES):
            self._acknowledged(sent, self._send(sent, at))
            return
        where = REPORT_CRASHES[crash]
        self.world.trap.at = where
        with pytest.raises(Crash):
            self._send(sent, at)
        if where in REPORT_COMMITTED:
            self.model.commit(sent)
        if where == ("settle", "after"):
            told = self._do(self._on(at).ground.ledger.receipt(self.run.id, key_of(sent)))
            assert told is not None
            self._settled(sent, told)

    @rule(at=REPLICA, num=st.integers(1, 4), tokens=st.booleans())
    def work(self, at: int, num: int, tokens: bool) -> None:
        """What a well-behaved worker does: draw, report everything, one task at a time."""
        self.draw(at, num, "w2", NO_CRASH)
        held = self.model.leases[-1] if self.model.leases else None
        if held is not None and held.live and held.worker == "w2":
            for ordinal in self._free(held):
                sent = self._make(held, [ordinal], "mixed", cargo=tokens and self.trains)
                self.model.sent.append(sent)
                self._acknowledged(sent, self._send(sent, 1 - at))

    @precondition(lambda self: self.model.sent)
    @rule(at=REPLICA, pick=PICK)
    def retry(self, at: int, pick: int) -> None:
        """The same report under the same key, whatever became of the first."""
        open_ = [sent for sent in self.model.sent if sent.receipt is None and sent.held.live]
        sent = self._pick(open_ if open_ and pick % 4 else self.model.sent, pick)
        if sent.committed or set(sent.ordinals) <= set(self._free(sent.held)):
            self._acknowledged(sent, self._send(sent, at))
        elif sent.held.live:
            with pytest.raises(TaskNotLeased):
                self._send(sent, at)
        else:
            with pytest.raises(LeaseSuperseded):
                self._send(sent, at)
            self.model.late(sent)

    def another_body(self, at: int, pick: int) -> None:
        """The same key with another body changes nothing."""
        sent = self._pick([sent for sent in self.model.sent if sent.committed], pick)
        with pytest.raises(IdempotencyKeyReused):
            self._send(sent, at, other=True)

    def report_twice(self, at: int, pick: int, shape: str) -> None:
        """Tasks that were reported, under another key: refused, or late if the lease is over."""
        before = self._pick([sent for sent in self.model.sent if sent.committed], pick)
        again = self._make(before.held, before.ordinals[:1], shape)
        with pytest.raises(TaskNotLeased if before.held.live else LeaseSuperseded):
            self._send(again, at)
        if not before.held.live:
            self.model.late(again)

    def late_report(self, at: int, pick: int, shape: str) -> None:
        """Of a lease that ended: kept apart."""
        held = self._pick([held for held in self.model.leases if not held.live], pick)
        item = self._pick(held.batch.items, pick)
        sent = self._make(held, [item.task.ordinal], shape)
        with pytest.raises(LeaseSuperseded):
            self._send(sent, at)
        self.model.late(sent)

    @precondition(lambda self: self.model.leases)
    @rule(
        at=REPLICA, pick=PICK, shape=SHAPE, kind=st.sampled_from(["body", "twice", "late", "draw"])
    )
    def refused(self, at: int, pick: int, shape: str, kind: str) -> None:
        """What must change nothing that counts."""
        committed = any(sent.committed for sent in self.model.sent)
        if kind == "draw" and self.model.live():
            self.draw_again(at, pick)
        elif kind == "body" and committed:
            self.another_body(at, pick)
        elif kind == "twice" and committed:
            self.report_twice(at, pick, shape)
        elif any(not held.live for held in self.model.leases):
            self.late_report(at, pick, shape)
