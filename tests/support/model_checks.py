"""The invariants of the design, each as a check of real servers against the model of the run.

Run after every step of the stateful test; a function's name carries the invariant's number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from etude_proto.v1 import CurriculumView, Run
from etude_sampler.service.replay_report import ReplayReport

from .model_run import RunModel
from .sampler_app_redis import HotState, check_laws
from .workload_model import (
    Recomputed,
    check_weights,
    plain_statistics,
    recompute,
    stored_statistics,
)


@dataclass(slots=True)
class Checks:
    """Checks of one run; the statistics are computed again only when a group was added."""

    run: Run
    model: RunModel
    query: Callable[..., list[tuple[object, ...]]]
    """Rows of a query on a connection of its own."""
    database_url: str
    redis_url: str
    worker_cap: int
    cargo_cap: int
    _done: Recomputed | None = None
    _computed: tuple[int, int] = (-1, -1)
    _seen: dict[str, object] = field(default_factory=dict)

    def _news(self, name: str, *state: object) -> bool:
        """Whether this is another state than when a costly check was made last."""
        if self._seen.get(name) == state:
            return False
        self._seen[name] = state
        return True

    def all(self, *, anew: bool = False) -> None:
        """Every invariant, in order; `anew`: the costly ones even if the model has not changed."""
        if anew:
            self._seen.clear()
        hot = check_laws(self.redis_url, self.run.id, num_tasks=self.model.num_tasks)
        self.invariant_1_conservation(hot)
        self.invariant_2_exclusive_lease(hot)
        self.invariant_3_exactly_once()
        self.invariant_4_ledger_first(hot)
        self.invariant_5_rebuildable(hot)
        self.invariant_7_unhinted_truth(hot)
        self.invariant_10_bounded(hot)

    def expected(self) -> Recomputed:
        """Statistics and mastery of the groups that count."""
        at = (len(self.model.groups), self.model.version)
        if self._done is None or self._computed != at:
            boundaries = self.model.boundaries
            self._done = recompute(self.run, self.model.groups, boundaries=boundaries)
            self._computed = at
        return self._done

    def invariant_1_conservation(self, hot: HotState) -> None:
        """Every task waits or is leased, as the model has it."""
        assert {int(task) for task in hot.lane(0)} == self.model.waiting
        leased = {task for held in self.model.live() for task in held.inside}
        assert self.model.waiting | leased == set(range(self.model.num_tasks))
        assert not self.model.waiting & leased

    def invariant_2_exclusive_lease(self, hot: HotState) -> None:
        """Leases hold what the model says; fences only grow, over epochs too."""
        found = {name: {int(task) for task in tasks} for name, tasks in hot.leased().items()}
        assert found == {held.id: held.inside for held in self.model.live()}
        assert sorted(set(self.model.fences)) == self.model.fences
        assert {fence >> 36 for fence in self.model.fences[-1:]} <= set(
            range(1, self.model.epoch + 1)
        )

    def invariant_3_exactly_once(self) -> None:
        """The ledger holds each attempt once, with its verdict; statistics are those of them."""
        rows = self.query(
            "SELECT lease_id, ordinal, kind, level, number, verdict FROM ledger WHERE run_id = %s",
            self.run.id,
        )
        assert len(rows) == len(self.model.rows)
        assert {row[:5]: row[5] for row in rows} == self.model.rows
        if not self._news("statistics", len(self.model.rows), self.model.version):
            return
        done = self.expected()
        assert stored_statistics(self.database_url, self.run.id) == plain_statistics(
            done.statistics
        )
        ((text, version),) = self.query(
            "SELECT allocator_state, policy_version FROM runs WHERE id = %s",
            self.run.id,
        )
        assert version == self.model.version
        assert done.state is not None
        assert json.loads(str(text)) == done.state.to_json()

    def invariant_4_ledger_first(self, hot: HotState) -> None:
        """What Redis gave up or passed on for a report is in PostgreSQL, receipt included."""
        sql = "SELECT key, response FROM receipts WHERE run_id = %s"
        receipts = {str(key): told for key, told in self.query(sql, self.run.id)}
        for sent in self.model.sent:
            if sent.receipt is not None:
                assert receipts[sent.key] == sent.receipt, "a receipt changed or is gone"
        committed = {f"{lease}:{ordinal}" for lease, ordinal, *_ in self.model.rows}
        ready = {name.decode() for name in hot.sorted_sets.get("ready", {})}
        assert ready <= committed
        assert ready == set(self.model.ready)
        for taken in self.model.training():
            assert set(taken.groups) <= committed

    def invariant_5_rebuildable(self, hot: HotState) -> None:
        """Redis is at the epoch that PostgreSQL has, and serves the version it was told."""
        sql = "SELECT epoch FROM runs WHERE id = %s"
        ((epoch,),) = self.query(sql, self.run.id)
        assert (hot.epoch, epoch) == (self.model.epoch, self.model.epoch)
        assert hot.count("version") == self.model.announced

    def invariant_6_stateless_replicas(self, *views: CurriculumView) -> None:
        """Whichever replica is asked, the answer is the model's."""
        counts = {view.counts.model_dump_json() for view in views}
        assert len(counts) == 1
        for view in views:
            assert view.counts.num_leased == sum(len(held.inside) for held in self.model.live())
            assert view.counts.num_ready_groups == len(self.model.ready)

    def invariant_8_reproducible(self, report: ReplayReport) -> None:
        """Every batch is drawn again the same; a gap only where a log was lost with Redis."""
        assert report.differences == []
        assert report.ledger.first_fault is None
        assert report.ledger.explains_statistics
        assert report.ledger.explains_mastery
        assert {gap.epoch for gap in report.gaps} <= self.model.lost_log
        assert len(report.epochs) <= self.model.epoch

    def invariant_7_unhinted_truth(self, hot: HotState) -> None:
        """Weights are those of the un-scaffolded statistics alone."""
        model = self.model
        if model.announced != model.version or model.unsettled_weights:
            return
        if self._news("weights", model.announced, model.epoch, len(model.rows), set(model.waiting)):
            check_weights(self.database_url, self.redis_url, self.run, self.expected())

    def invariant_10_bounded(self, hot: HotState) -> None:
        """Limits hold: leased and ready tasks, leases of a worker, bytes."""
        assert hot.count("n_leased") <= self.model.cap
        for num in hot.hashes.get("workers", {}).values():
            assert 0 < int(num) <= self.worker_cap
        assert 0 <= hot.count("cargo_bytes") <= self.cargo_cap
        assert len(hot.hashes.get("idem", {})) == len(self.model.live()) + len(
            self.model.training()
        )
