"""From a report to ledger rows, statistics and a receipt: pure, inside the report's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from etude_proto.v1 import (
    Attempt,
    AttemptReceipt,
    GateVerdict,
    GroupReceipt,
    Receipt,
    Report,
    Verdict,
)
from etude_sampler.statistics import (
    Floats,
    GroupSummary,
    TaskStatistics,
    empty,
    fold,
    summarise,
)

from ..ports.ledger import (
    BARE,
    CommitPlan,
    CommitView,
    LedgerRow,
    StatisticsKey,
    StatisticsRows,
)
from ..ports.races import Drawn
from .context import RunContext
from .outcomes import compact_outcomes, oldest_version, outcome_arrays


@dataclass(frozen=True, slots=True)
class Reported:
    """A report, matched with its lease: one entry a group, in the report's order."""

    report: Report
    receipt_id: str
    lease_id: str
    ordinals: tuple[int, ...]
    drawn: tuple[Drawn, ...]
    lease_version: int
    num_waiting: int
    num_remaining: int
    """Tasks of the lease that stay unreported."""
    has_cargo: bool
    """Trajectories came with the report."""
    cargo_kept: bool
    """And the byte budget had room for them."""


def late_rows(reported: Reported, subtasks: Sequence[str]) -> list[LedgerRow]:
    """Rows of a report whose lease has ended."""
    blank = np.full((1, len(subtasks)), np.nan).astype("<f8").tobytes()
    rows = []
    for g, group in enumerate(reported.report.groups):
        for attempt in group.attempts:
            summary = summarise(outcome_arrays([attempt], subtasks))
            row = _row(reported, g, attempt, summary=summary, i=0)
            rows.append(replace(row, verdict=Verdict.LATE, mean=blank, prev=blank, new=blank))
    return rows


def _row(
    reported: Reported, g: int, attempt: Attempt, *, summary: GroupSummary, i: int
) -> LedgerRow:
    drawn = reported.drawn[g]
    mean, var = float(summary.reward_mean_N[i]), float(summary.reward_var_N[i])
    return LedgerRow(
        apply_seq=0,
        lease_id=reported.lease_id,
        ordinal=reported.ordinals[g],
        kind=attempt.scaffold_kind,
        level=attempt.scaffold_level,
        number=attempt.number,
        fence=reported.report.fence,
        verdict=Verdict.APPLIED,
        gate=GateVerdict.NOT_APPLIED,
        policy_version=reported.lease_version,
        min_version=oldest_version(attempt.outcomes, otherwise=reported.lease_version),
        lane=drawn.lane,
        slot_probability=drawn.slot_probability,
        num_waiting=reported.num_waiting,
        num_valid=int(summary.num_valid_N[i]),
        num_success=int(summary.num_success_N[i]),
        reward_mean=mean if mean == mean else 0.0,
        reward_var=var if var == var else 0.0,
        num_tokens=sum(o.num_tokens for o in attempt.outcomes),
        mean=summary.mean_NK[i].astype("<f8").tobytes(),
        prev=b"",
        new=b"",
        outcomes=compact_outcomes(attempt.outcomes),
    )


class _Folder:
    """Statistics of the report's keys while its attempts are folded, in order."""

    def __init__(self, context: RunContext, view: CommitView, ordinals: Sequence[int]) -> None:
        self._context = context
        found = {key: i for i, key in enumerate(view.statistics.keys)}
        wanted = [StatisticsKey(ordinal, *BARE) for ordinal in ordinals]
        self.keys = list(found) + [key for key in wanted if key not in found]
        self.rows = {key: i for i, key in enumerate(self.keys)}
        missing = len(self.keys) - len(found)
        self.values = join(view.statistics.values, empty(missing, context.num_subtasks))
        self.fences = np.concatenate([view.statistics.fences, np.zeros(missing, np.int64)])
        self.touched: set[int] = set()

    def add(self, key: StatisticsKey) -> int:
        """Row of a key, new if need be."""
        if key not in self.rows:
            self.rows[key] = len(self.keys)
            self.keys.append(key)
            self.values = join(self.values, empty(1, self._context.num_subtasks))
            self.fences = np.append(self.fences, 0)
        return self.rows[key]

    def fold(
        self, rows: Sequence[int], summary: GroupSummary, version: int
    ) -> tuple[Floats, Floats]:
        """Fold one group into each row; component EMAs before and after."""
        at = np.array(rows, dtype=np.int64)
        before = self.values.select(at)
        after = fold(
            before,
            summary,
            version_N=np.full(len(at), version, dtype=np.int64),
            constants=self._context.curriculum.estimator,
        )
        self.values = put(self.values, at, after)
        self.touched.update(int(row) for row in at)
        return before.m_NK, after.m_NK


def join(first: TaskStatistics, second: TaskStatistics) -> TaskStatistics:
    """Rows of `first`, then rows of `second`."""
    names = TaskStatistics.__slots__
    return TaskStatistics(
        **{n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in names}
    )


def put(stats: TaskStatistics, rows: np.ndarray, new: TaskStatistics) -> TaskStatistics:
    """`stats` with `rows` replaced."""
    columns = {}
    for name in TaskStatistics.__slots__:
        column = getattr(stats, name).copy()
        column[rows] = getattr(new, name)
        columns[name] = column
    return TaskStatistics(**columns)


def select_summary(summary: GroupSummary, rows: Sequence[int]) -> GroupSummary:
    """Some rows of a summary."""
    at = np.array(rows, dtype=np.int64)
    return GroupSummary(**{n: getattr(summary, n)[at] for n in GroupSummary.__slots__})


def plan_report(context: RunContext, reported: Reported, view: CommitView) -> CommitPlan:
    """What the report's transaction writes."""
    flat = [(g, a) for g, group in enumerate(reported.report.groups) for a in group.attempts]
    summary = summarise(outcome_arrays([a for _, a in flat], context.curriculum.subtasks))
    admitted = context.curriculum.gate.admit(summary)
    lag = context.curriculum.estimator.max_lag_versions
    rows = [_row(reported, g, a, summary=summary, i=i) for i, (g, a) in enumerate(flat)]
    folder = _Folder(context, view, reported.ordinals)
    by_round: dict[int, list[int]] = {}
    seen: dict[StatisticsKey, int] = {}
    for i, row in enumerate(rows):
        if row.num_valid < 2:
            rows[i] = replace(row, verdict=Verdict.INVALID)
        elif view.policy_version - row.min_version > lag:
            rows[i] = replace(row, verdict=Verdict.STALE)
        else:
            key = StatisticsKey(row.ordinal, row.kind, row.level)
            by_round.setdefault(seen.setdefault(key, 0), []).append(i)
            seen[key] += 1
    blank = np.full(context.num_subtasks, np.nan).astype("<f8").tobytes()
    packed = dict.fromkeys(range(len(rows)), (blank, blank))
    for _, members in sorted(by_round.items()):
        at = [
            folder.add(StatisticsKey(rows[i].ordinal, rows[i].kind, rows[i].level)) for i in members
        ]
        before, after = folder.fold(at, select_summary(summary, members), view.policy_version)
        for j, i in enumerate(members):
            packed[i] = before[j].astype("<f8").tobytes(), after[j].astype("<f8").tobytes()
    last = {g: i for i, (g, _) in enumerate(flat)}
    for i, row in enumerate(rows):
        gate = GateVerdict.NOT_APPLIED
        if row.verdict == Verdict.APPLIED and last[flat[i][0]] == i:
            gate = _gate(context, reported, view, row=row, admitted=bool(admitted[i]))
        prev, new = packed[i]
        rows[i] = replace(row, apply_seq=view.apply_seqs[i], gate=gate, prev=prev, new=new)
    touched = sorted(folder.touched)
    fences = folder.fences.copy()
    fences[touched] = reported.report.fence
    everything = StatisticsRows(tuple(folder.keys), fences, folder.values)
    return CommitPlan(
        ledger=rows,
        statistics=_pick(everything, touched),
        after=everything,
        receipt=_receipt(reported, view, rows=rows, flat=flat),
    )


def _pick(rows: StatisticsRows, at: Sequence[int]) -> StatisticsRows:
    index = np.array(at, dtype=np.int64)
    return StatisticsRows(
        tuple(rows.keys[i] for i in at), rows.fences[index], rows.values.select(index)
    )


def _gate(
    context: RunContext, reported: Reported, view: CommitView, *, row: LedgerRow, admitted: bool
) -> GateVerdict:
    if not admitted:
        return GateVerdict.ZERO_VARIANCE
    if not reported.has_cargo:
        return GateVerdict.NO_TOKENS
    if view.policy_version - row.min_version > context.row.spec.limits.max_staleness:
        return GateVerdict.TOO_STALE
    return GateVerdict.ADMITTED if reported.cargo_kept else GateVerdict.EVICTED


def _receipt(
    reported: Reported,
    view: CommitView,
    *,
    rows: Sequence[LedgerRow],
    flat: Sequence[tuple[int, Attempt]],
) -> bytes:
    attempts: Mapping[int, list[AttemptReceipt]] = {g: [] for g in range(len(reported.ordinals))}
    gates: dict[int, str] = {}
    for row, (g, attempt) in zip(rows, flat, strict=True):
        attempts[g].append(
            AttemptReceipt(
                scaffold_kind=attempt.scaffold_kind,
                scaffold_level=attempt.scaffold_level,
                number=attempt.number,
                verdict=Verdict(row.verdict),
                apply_seq=row.apply_seq if row.verdict == Verdict.APPLIED else None,
            )
        )
        gates[g] = row.gate
    groups = [
        GroupReceipt(task_id=group.task_id, attempts=attempts[g], gate=GateVerdict(gates[g]))
        for g, group in enumerate(reported.report.groups)
    ]
    return (
        Receipt(
            id=reported.receipt_id,
            lease_id=reported.lease_id,
            groups=groups,
            num_remaining=reported.num_remaining,
            policy_version=view.policy_version,
        )
        .model_dump_json()
        .encode()
    )
