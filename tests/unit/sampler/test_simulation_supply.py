"""Groups on their way to a step: oldest first; where the gate drops, the bank fills."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etude_sampler.curriculum import BankRule, Gate
from etude_sampler.curriculum.gates.dapo import DapoGate
from etude_sampler.curriculum.gates.vcrl import VcrlGate
from etude_sampler.simulation import step
from etude_sampler.simulation.plan import Plan
from etude_sampler.simulation.protocol import simulate
from etude_sampler.simulation.step import Signals
from etude_sampler.simulation.supply import MAX_STALENESS, Supply
from etude_sampler.statistics import GroupSummary, summarise
from support.groups import binary_group

VCRL = VcrlGate(0.3, 0.3, 0, BankRule(num_groups=4, momentum=0.9, max_replays=2))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of 8 make a step."""
    monkeypatch.setattr(step, "STEP_ROLLOUTS", 16)


def _taught(*signals: float) -> Signals:
    """One group a number, told apart by its signal."""
    num = len(signals)
    family_N, size_N = np.zeros(num, np.int64), np.full(num, 8)
    return Signals(family_N, size_N, np.array(signals), np.zeros((num, 4)))


def _told(*successes: int) -> GroupSummary:
    """Groups of 8 with so many right."""
    groups = [binary_group(8, m) for m in successes]
    whole = groups[0]
    for other in groups[1:]:
        whole = replace(
            whole,
            **{
                name: np.concatenate([getattr(whole, name), getattr(other, name)])
                for name in ("q_NGK", "reward_NG", "success_NG", "valid_NG")
            },
        )
    return summarise(whole)


def _batch(supply: Supply, gate: Gate, groups: dict[int, tuple[int, float]], version: int) -> None:
    """Report tasks by (right of 8, signal)."""
    tasks_B = np.array(list(groups))
    summary = _told(*(right for right, _ in groups.values()))
    admitted_B = gate.admit(summary)
    supply.hear(gate, tasks_B, summary, admitted_B)
    rows = np.flatnonzero(admitted_B)
    taught = _taught(*(signal for _, signal in groups.values())).select(rows)
    supply.add(taught, tasks_B, rows, version=version)


def _next(supply: Supply, version: int) -> list[float] | None:
    found = supply.next(version)
    return None if found is None else found.signal_N.tolist()


def test_without_a_bank_dropped_groups_leave_nothing() -> None:
    gate = DapoGate()
    supply = Supply(gate)
    assert supply.next(0) is None
    _batch(supply, gate, {1: (4, 0.1), 2: (0, 0.2), 3: (3, 0.3), 4: (4, 0.4)}, 0)
    assert _next(supply, 0) == [0.1, 0.3]
    _batch(supply, gate, {5: (8, 0.5)}, 1)
    assert _next(supply, 1) is None


def test_dropped_groups_are_replaced_from_the_bank_twice_at_most() -> None:
    supply = Supply(VCRL)
    _batch(supply, VCRL, {1: (4, 0.1), 2: (2, 0.2)}, 0)
    assert _next(supply, 0) == [0.1, 0.2]
    _batch(supply, VCRL, {3: (4, 0.3), 4: (0, 0.4)}, 1)
    assert _next(supply, 1) == [0.3, 0.1], "x = 1 goes before x = .75"
    _batch(supply, VCRL, {5: (8, 0.5), 6: (0, 0.6)}, 2)
    assert _next(supply, 2) == [0.3, 0.1], "of equals the newest"
    _batch(supply, VCRL, {5: (8, 0.5), 6: (0, 0.6)}, 3)
    assert _next(supply, 3) == [0.3, 0.2], "the first has had its two"


def test_old_groups_are_not_replayed() -> None:
    supply = Supply(VCRL)
    _batch(supply, VCRL, {1: (4, 0.1), 2: (2, 0.2)}, 0)
    assert _next(supply, 0) == [0.1, 0.2]
    assert supply.next(MAX_STALENESS + 1) is None
    _batch(supply, VCRL, {3: (0, 0.3), 4: (0, 0.4)}, MAX_STALENESS + 1)
    assert supply.next(MAX_STALENESS + 1) is None


def test_a_bank_makes_steps_of_the_same_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arm `vcrl` against itself without its bank."""
    monkeypatch.setattr(step, "STEP_ROLLOUTS", 512)
    plan = Plan(budget=10_240)
    with_bank = simulate("vcrl", 1, plan).steps_B[-1]
    monkeypatch.setattr("etude_sampler.simulation.supply.bank_of", lambda gate: None)
    assert simulate("vcrl", 1, plan).steps_B[-1] < with_bank
