"""From a report to ledger rows, statistics and a receipt: pure, inside the report's transaction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from etude_proto.v1 import Attempt, GateVerdict, Verdict
from etude_sampler.curriculum import Gate, dated
from etude_sampler.curriculum.binding import is_paced_part
from etude_sampler.curriculum.hard import Visit
from etude_sampler.statistics import (
    GroupSummary,
    summarise,
)

from ..errors import LeaseSuperseded, PayloadInvalid
from ..ports.fence import epoch_of
from ..ports.ledger import (
    CommitPlan,
    CommitView,
    StatisticsKey,
)
from .allotting import held_back
from .context import RunContext
from .demonstrating import new_demonstrations
from .folding import Folder, pick, select_summary
from .hard_states import PaceMoved, gate_of_lane, hard_for_report
from .outcomes import Columns
from .reported import Emas, Fate, Reported, Told, ledger_rows

_VERSIONS = "/groups/*/attempts/*/outcomes/*/max_policy_version"
_GATED = (Verdict.APPLIED, Verdict.MERGED)
"""What may be trained on; a merged group is counted where it was made."""


def plan_report(context: RunContext, reported: Reported, view: CommitView) -> CommitPlan:
    """What the report's transaction writes.

    Raises:
        LeaseSuperseded: the epoch was raised since the lease was proved.
    """
    if epoch_of(reported.report.fence) != view.epoch:
        raise LeaseSuperseded("Redis was rebuilt since the lease was given out")
    flat = [(g, a) for g, group in enumerate(reported.report.groups) for a in group.attempts]
    columns = Columns.of([a for _, a in flat], version=reported.lease_version)
    told = Told(reported, flat, columns)
    _check(context, told, view)
    summary = summarise(told.arrays(context.curriculum.subtasks))
    oldest = told.oldest()
    valid = summary.num_valid_N.tolist()
    verdicts = _verdicts(context, told, view, num_valid=valid, oldest=oldest)
    folder = Folder(context, view, reported.ordinals)
    blank = np.full((len(flat), context.num_subtasks), np.nan)
    emas = Emas(summary.mean_NK, blank.copy(), blank.copy())
    for members in _rounds(reported, flat, verdicts):
        keys = [_key(reported, flat[i]) for i in members]
        emas.prev[members], emas.new[members] = folder.fold(
            keys, select_summary(summary, members), view.policy_version
        )
    _visit(context, folder, told, view, summary=summary, verdicts=verdicts)
    gate_now = _gate_at(context, view.policy_version)
    admitted = gate_now.admit(summary).tolist()
    last = {g: i for i, (g, _) in enumerate(flat)}
    fates = []
    for i, (g, _) in enumerate(flat):
        gate = GateVerdict.NOT_APPLIED
        if verdicts[i] in _GATED and last[g] == i:
            gate = _gate(
                context,
                reported,
                view,
                oldest=oldest[i],
                admitted=admitted[i],
                lane=reported.drawn[g].lane,
            )
        fates.append(Fate(verdicts[i], _held_back(reported, g, gate), view.apply_seqs[i]))
    after = folder.rows(reported.report.fence)
    return CommitPlan(
        ledger=ledger_rows(told, summary=summary, emas=emas, fates=fates),
        statistics=pick(after, sorted(folder.touched)),
        after=after,
        receipt=_receipt(reported, view, flat=flat, fates=fates),
        demonstrations=()
        if context.curriculum.hard is None
        else new_demonstrations(
            reported.report.groups,
            ordinals=reported.ordinals,
            seqs=[
                view.apply_seqs[last[g]] if verdicts[last[g]] is Verdict.APPLIED else 0
                for g in range(len(reported.ordinals))
            ],
            version=view.policy_version,
        ),
    )


def _gate_at(context: RunContext, version: int) -> Gate:
    """The gate at the version that the transaction sees. Raises `PaceMoved`: its pace is older."""
    gate = context.curriculum.gate
    if is_paced_part(gate) and context.row.policy_version != version:
        raise PaceMoved
    return dated(gate, version)


def _visit(
    context: RunContext,
    folder: Folder,
    told: Told,
    view: CommitView,
    *,
    summary: GroupSummary,
    verdicts: Sequence[Verdict],
) -> None:
    """The states of hard sampling, moved by the applied attempts. Raises `PaceMoved`."""
    hard = hard_for_report(context, view.policy_version)
    if hard is None:
        return
    valid, won = summary.num_valid_N.tolist(), summary.num_success_N.tolist()
    visits = [
        Visit(*_key(told.reported, one), num_valid=valid[i], num_success=won[i])
        for i, one in enumerate(told.flat)
        if verdicts[i] is Verdict.APPLIED
    ]
    folder.visit(visits, hard)


def _check(context: RunContext, told: Told, view: CommitView) -> None:
    """Refuse what a client cannot have meant; whatever it is, nothing of it is stored.

    Raises:
        PayloadInvalid: versions that were never announced, or components that the run has not.
    """
    oldest, newest = (told.columns.counted[f"{which}_policy_version"] for which in ("min", "max"))
    if any(low > high for low, high in zip(oldest, newest, strict=True)):
        raise PayloadInvalid.at(_VERSIONS, "the oldest version is newer than the newest")
    if max(newest) > view.policy_version:
        detail = f"version {max(newest)}, but the newest announced one is {view.policy_version}"
        raise PayloadInvalid.at(_VERSIONS, detail)
    lanes, named = context.curriculum.subtasks, told.columns.components
    if named and lanes and told.reported.members is None and not named.keys() & set(lanes):
        detail = f"{', '.join(named)}: none is a component of this run ({', '.join(lanes)})"
        raise PayloadInvalid.at("/groups/*/attempts/*/outcomes/*/components", detail)


def _verdicts(
    context: RunContext,
    told: Told,
    view: CommitView,
    *,
    num_valid: Sequence[int],
    oldest: Sequence[int],
) -> list[Verdict]:
    """A bare group needs two valid rollouts. A rung of a ladder may be a single one: its statistics
    are read by the ladder alone (our choice)."""
    lag = context.curriculum.estimator.max_lag_versions
    verdicts = []
    for (_, attempt), valid, version in zip(told.flat, num_valid, oldest, strict=True):
        is_rung = attempt.scaffold_level > 0 and not attempt.merged
        verdict = Verdict.MERGED if attempt.merged else Verdict.APPLIED
        if view.policy_version - version > lag:
            verdict = Verdict.STALE
        if valid < (1 if is_rung else 2):
            verdict = Verdict.INVALID
        verdicts.append(verdict)
    return verdicts


def _key(reported: Reported, one: tuple[int, Attempt]) -> StatisticsKey:
    g, attempt = one
    return StatisticsKey(reported.ordinals[g], attempt.scaffold_kind, attempt.scaffold_level)


def _rounds(
    reported: Reported, flat: Sequence[tuple[int, Attempt]], verdicts: Sequence[Verdict]
) -> list[list[int]]:
    """Applied attempts, so that no round holds a statistics key twice; order is kept per key."""
    rounds: list[list[int]] = []
    seen: dict[StatisticsKey, int] = {}
    for i, one in enumerate(flat):
        if verdicts[i] is Verdict.APPLIED:
            key = _key(reported, one)
            turn = seen.get(key, 0)
            seen[key] = turn + 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(i)
    return rounds


def _held_back(reported: Reported, g: int, gate: GateVerdict) -> GateVerdict:
    """The gate's verdict, unless the group's allotment keeps it from training."""
    if gate in (GateVerdict.NOT_APPLIED, GateVerdict.PROBE) or reported.allotted is None:
        return gate
    num_outcomes = len(reported.report.groups[g].attempts[-1].outcomes)
    return held_back(reported.allotted.get(reported.ordinals[g]), num_outcomes) or gate


def _gate(
    context: RunContext,
    reported: Reported,
    view: CommitView,
    *,
    oldest: int,
    admitted: bool,
    lane: int,
) -> GateVerdict:
    if (decided := gate_of_lane(context, lane)) is not None:
        return decided
    if not admitted:
        return GateVerdict.ZERO_VARIANCE
    if not reported.has_cargo:
        return GateVerdict.NO_TOKENS
    if view.policy_version - oldest > context.row.spec.limits.max_staleness:
        return GateVerdict.TOO_STALE
    return GateVerdict.ADMITTED if reported.cargo_kept else GateVerdict.EVICTED


def _receipt(
    reported: Reported,
    view: CommitView,
    *,
    flat: Sequence[tuple[int, Attempt]],
    fates: Sequence[Fate],
) -> bytes:
    """A `Receipt`, encoded once: what is stored is what every retry gets."""
    attempts: list[list[dict[str, object]]] = [[] for _ in reported.ordinals]
    gates = [GateVerdict.NOT_APPLIED] * len(reported.ordinals)
    for fate, (g, attempt) in zip(fates, flat, strict=True):
        attempts[g].append(
            {
                "scaffold_kind": attempt.scaffold_kind,
                "scaffold_level": attempt.scaffold_level,
                "number": attempt.number,
                "verdict": fate.verdict,
                "apply_seq": fate.apply_seq if fate.verdict in _GATED else None,
            }
        )
        gates[g] = fate.gate
    return orjson.dumps(
        {
            "id": reported.receipt_id,
            "lease_id": reported.lease_id,
            "groups": [
                {"task_id": group.task_id, "attempts": attempts[g], "gate": gates[g]}
                for g, group in enumerate(reported.report.groups)
            ],
            "num_remaining": reported.num_remaining,
            "policy_version": view.policy_version,
        }
    )
