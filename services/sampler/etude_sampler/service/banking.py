"""The bank of a run in the flow: what a report tells it, and the ledger's lines of its replays.

The rules are `curriculum.banking`, the steps `ports.bank`. Neighbours: `reports`, `training`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etude_proto.v1 import CargoRef, GateVerdict, Verdict
from etude_sampler.curriculum import BankRule, bank_of
from etude_sampler.statistics import summarise

from ..ports.bank import ReplayLine, pack_note
from .context import RunContext
from .outcomes import Columns
from .reported import Reported
from .steps import Ground

_COUNTED = (Verdict.APPLIED, Verdict.MERGED)


def rule_of(context: RunContext) -> BankRule | None:
    """How the run keeps groups for replay; None: it does not."""
    bank = bank_of(context.curriculum.gate)
    return None if bank is None else bank[0]


@dataclass(frozen=True, slots=True)
class BankNote:
    """What the bank hears of a reported group."""

    value: float | None = None
    """x, in [0, 1]; None in a run without a bank."""
    packed: bytes = b""
    """For the script; empty if the group does not count, or there is no bank."""


def bank_notes(
    context: RunContext, reported: Reported, told: Sequence[tuple[int, Mapping[str, object]]]
) -> list[BankNote]:
    """Notes of groups, from the report itself and its stored receipt: a retry says the same.

    Args:
        context: the run.
        reported: the report.
        told: groups by their position in the report, each with its entry in the receipt.
    """
    bank = bank_of(context.curriculum.gate)
    if bank is None:
        return [BankNote()] * len(told)
    rule, gate = bank
    # What is trained on, and gated, is a group's last attempt.
    attempts = [reported.report.groups[i].attempts[-1] for i, _ in told]
    columns = Columns.of(attempts, version=reported.lease_version)
    values_N = gate.values(summarise(columns.arrays(context.curriculum.subtasks)))
    values = np.clip(np.nan_to_num(values_N), 0.0, 1.0).tolist()
    return [
        BankNote(value, _packed(rule, value, receipt))
        for value, (_, receipt) in zip(values, told, strict=True)
    ]


def _packed(rule: BankRule, value: float, receipt: Mapping[str, object]) -> bytes:
    attempts = receipt["attempts"]
    assert isinstance(attempts, list)
    if attempts[-1]["verdict"] not in _COUNTED:
        return b""
    return pack_note(rule, value, was_dropped=receipt["gate"] == GateVerdict.ZERO_VARIANCE)


async def replay_lines(
    ground: Ground, run_id: str, lease_id: str, *, fence: int, policy_version: int
) -> list[ReplayLine]:
    """Lines of the replayed groups in a live training batch, trained from `policy_version`."""
    if rule_of(await ground.contexts.get(run_id)) is None:
        return []
    found = await ground.on_run(run_id, lambda c: ground.races.replayed(c.key, lease_id))
    lines = []
    for one in found:
        ref = CargoRef.model_validate_json(one.manifest)
        lines.append(
            ReplayLine(
                lease_id=lease_id,
                fence=fence,
                ordinal=ref.ordinal,
                number=one.num_replays,
                origin_seq=ref.apply_seq,
                policy_version=policy_version,
                min_version=ref.min_policy_version,
            )
        )
    return lines
