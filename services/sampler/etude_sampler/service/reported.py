"""A report as its transaction sees it, and the ledger rows that it becomes: pure.

Neighbours: `reports` matches a report with its lease, `reporting` plans what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude_proto.v1 import Attempt, GateVerdict, Report, Verdict
from etude_sampler.statistics import Floats, GroupSummary, OutcomeArrays, summarise

from ..ports.allotments import Allotments
from ..ports.ledger import LedgerRow
from ..ports.races import Drawn
from .context import RunContext
from .outcomes import Columns, pack_rows

_LATE_PER_TASK = 4
"""Late rows that a lease may have, for each task of the largest one (our choice)."""


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
    allotted: Allotments | None = None
    """What the lease's tasks were to get; None without a budget."""
    members: tuple[tuple[str, ...], ...] | None = None
    """By group the lanes that are scored by success; None: lanes are scored components."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one attempt."""

    verdict: Verdict
    gate: GateVerdict = GateVerdict.NOT_APPLIED
    apply_seq: int = 0


def most_late(context: RunContext) -> int:
    """Rows kept of a lease that ended: whoever makes up fences and attempts fills no disk."""
    return _LATE_PER_TASK * context.row.spec.limits.max_batch_tasks


def late_rows(reported: Reported, subtasks: Sequence[str]) -> list[LedgerRow]:
    """Rows of a report whose lease has ended."""
    flat = [(g, a) for g, group in enumerate(reported.report.groups) for a in group.attempts]
    columns = Columns.of([a for _, a in flat], version=reported.lease_version)
    members = None if reported.members is None else [reported.members[g] for g, _ in flat]
    summary = summarise(columns.arrays(subtasks, members))
    blank = np.full((len(flat), len(subtasks)), np.nan)
    emas = Emas(blank, blank, blank)
    fates = [Fate(Verdict.LATE)] * len(flat)
    return ledger_rows(Told(reported, flat, columns), summary=summary, emas=emas, fates=fates)


@dataclass(frozen=True, slots=True)
class Told:
    """A report's attempts, each with its group's position, and their outcomes as columns."""

    reported: Reported
    flat: Sequence[tuple[int, Attempt]]
    columns: Columns

    def arrays(self, subtasks: Sequence[str]) -> OutcomeArrays:
        """The outcomes as arrays, [N, G] with lanes by name."""
        members = self.reported.members
        of = None if members is None else [members[g] for g, _ in self.flat]
        return self.columns.arrays(subtasks, of)

    def oldest(self) -> list[int]:
        """Oldest policy version of each attempt."""
        return self.columns.oldest_versions(otherwise=self.reported.lease_version)


@dataclass(frozen=True, slots=True)
class Emas:
    """Component means of the groups, and the tasks' stored EMAs before and after; [N, K]."""

    mean: Floats
    prev: Floats
    new: Floats


def ledger_rows(
    told: Told, *, summary: GroupSummary, emas: Emas, fates: Sequence[Fate]
) -> list[LedgerRow]:
    """The ledger's rows of a report's attempts."""
    reported, columns = told.reported, told.columns
    each = zip(
        told.flat,
        fates,
        told.oldest(),
        summary.num_valid_N.tolist(),
        summary.num_success_N.tolist(),
        np.nan_to_num(summary.reward_mean_N, nan=0.0).tolist(),
        np.nan_to_num(summary.reward_var_N, nan=0.0).tolist(),
        columns.num_tokens(),
        pack_rows(emas.mean),
        pack_rows(emas.prev),
        pack_rows(emas.new),
        columns.compact(engine=reported.report.engine),
        strict=True,
    )
    return [
        LedgerRow(
            apply_seq=fate.apply_seq,
            lease_id=reported.lease_id,
            ordinal=reported.ordinals[g],
            kind=attempt.scaffold_kind,
            level=attempt.scaffold_level,
            number=attempt.number,
            fence=reported.report.fence,
            verdict=fate.verdict,
            gate=fate.gate,
            policy_version=reported.lease_version,
            min_version=oldest,
            lane=reported.drawn[g].lane,
            slot_probability=reported.drawn[g].slot_probability,
            num_waiting=reported.num_waiting,
            num_valid=num_valid,
            num_success=num_success,
            reward_mean=reward_mean,
            reward_var=reward_var,
            num_tokens=num_tokens,
            mean=mean,
            prev=prev,
            new=new,
            outcomes=outcomes,
        )
        for (
            (g, attempt),
            fate,
            oldest,
            num_valid,
            num_success,
            reward_mean,
            reward_var,
            num_tokens,
            mean,
            prev,
            new,
            outcomes,
        ) in each
    ]
