"""The state of a task between ACTIVE, HARD(k) and PARKED (algorithms.md 4.1; the table is ours).

A task's state is eleven numbers, kept as a note of its un-scaffolded statistics. `after_visit`
moves it by a group of the task, `resolved` brings it to the round of today: what a round's end
changes is computed when it is looked at, so nothing is written for tasks that nobody serves.
Neighbours: `pace` knows the round and how many are parked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Bools, Floats

FEW_SHOT = "few_shot"
"""Scaffold kind of a guided group; its level is the number of demonstrations shown."""

LIVE, K, ROUND, ZEROS, GUIDED, ZERO_ROUNDS, SINCE, ORDINAL, DUE = 0, 1, 2, 3, 6, 7, 8, 9, 10
"""Columns: anything to remember (1 or 0); k (0 active, -1 parked); round of these numbers; failures
of that round and of the two before (3 columns); guided failures in a row since the last verdict;
rounds in a row without a guided success; round in which it was parked; the task's ordinal; whether
a probe is owed."""
WIDTH = 11
FRESH = (0.0,) * WIDTH
"""A task never seen: active, nothing counted."""
PARKED = -1.0
_BUCKETS = 3
"""Rounds that count: this one and those at most two back."""


@dataclass(frozen=True, slots=True)
class HardConstants:
    """Constants of the state machine; origins in algorithms.md 4.4."""

    hard_after: int = 10
    """Un-scaffolded failures in a row that make a task hard (`paper`)."""
    probe_from: int = 4
    """At a round's end, so many failures ask for a probe of the rest (ours)."""
    k_max: int = 2
    """Demonstrations shown to a task that has become hard (ours)."""
    pass_rate: float = 0.5
    """Guided success from which it gets one demonstration less (ours)."""
    parked_after: int = 2
    """Rounds in a row without guided success before it is parked (ours)."""
    retry_rounds: int = 3
    """Rounds until a parked task is tried again (ours)."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A group of one task: its valid rollouts and their successes at a scaffold level."""

    ordinal: int
    kind: str
    level: int
    num_valid: int
    num_success: int


def zeros_of(x_NW: Floats) -> Floats:
    """[N] un-scaffolded failures since the last success, at most two rounds old."""
    zeros_N: Floats = x_NW[:, ZEROS : ZEROS + _BUCKETS].sum(axis=1)
    return zeros_N


def owed(x_NW: Floats, constants: HardConstants) -> Floats:
    """[N] rollouts of the probe that is owed; 0 where none is.

    At least 2: a group of a single valid rollout is never folded (rule C2).
    """
    missing_N = np.maximum(constants.hard_after - zeros_of(x_NW), 2.0)
    return np.where(x_NW[:, DUE] > 0, missing_N, 0.0)


def resolved(
    x_NW: Floats, *, round_now: int, freed: tuple[int, int], constants: HardConstants
) -> Floats:
    """The states of N tasks in the round of today.

    Args:
        x_NW: [N, 11] states as stored. Those of a later round come from a run that this one was
            forked from with other constants: rounds begin anew, states are kept.
        round_now: the run's round, counted from 0.
        freed: every task parked at or before this (round, ordinal) has been let back in.
        constants: of the run.

    Returns:
        New states. Going there in several steps gives the same, if `freed` only ever rises.
    """
    x = x_NW.copy()
    x[:, [ROUND, SINCE]] = np.minimum(x[:, [ROUND, SINCE]], round_now)
    x[:, K] = np.minimum(x[:, K], constants.k_max)
    live_N = x[:, LIVE] > 0
    gap_N = round_now - x[:, ROUND]
    ended_N = live_N & (gap_N > 0)
    _judge(x, ended_N & (x[:, K] > 0) & (x[:, GUIDED] >= constants.hard_after), constants)
    _age(x, ended_N, gap_N)
    after_N = x[:, ORDINAL] > freed[1]
    held_N = (x[:, SINCE] > freed[0]) | ((x[:, SINCE] == freed[0]) & after_N)
    waited_N = round_now >= x[:, SINCE] + constants.retry_rounds
    back_N = (x[:, K] == PARKED) & (waited_N | ~held_N)
    x[back_N, K], x[back_N, ZERO_ROUNDS] = constants.k_max, 0.0
    zeros_N = zeros_of(x)
    asks_N = (zeros_N >= constants.probe_from) & (zeros_N < constants.hard_after)
    x[ended_N, DUE] = ((x[:, K] == 0) & asks_N)[ended_N]
    x[:, LIVE] = (x[:, K] != 0) | (zeros_N > 0)
    x[:, ROUND] = np.where(live_N, round_now, x[:, ROUND])
    return x


def _judge(x_NW: Floats, judged_N: Bools, constants: HardConstants) -> None:
    """The verdict of a round's end on tasks with enough guided failures, in place."""
    below_N = judged_N & (x_NW[:, K] < constants.k_max)
    full_N = judged_N & ~below_N
    x_NW[judged_N, GUIDED] = 0.0
    x_NW[below_N, K] += 1.0
    x_NW[below_N, ZERO_ROUNDS] = 0.0
    x_NW[full_N, ZERO_ROUNDS] += 1.0
    parked_N = full_N & (x_NW[:, ZERO_ROUNDS] >= constants.parked_after)
    x_NW[parked_N, SINCE] = x_NW[parked_N, ROUND]
    x_NW[parked_N, K] = PARKED


def _age(x_NW: Floats, ended_N: Bools, gap_N: Floats) -> None:
    """Failures move one bucket a round, and out of the last; in place."""
    before_NZ = x_NW[:, ZEROS : ZEROS + _BUCKETS].copy()
    for age in range(_BUCKETS):
        source_N = age - np.where(ended_N, gap_N, 0.0)
        column = ZEROS + age
        x_NW[:, column] = 0.0
        for at in range(age + 1):
            here_N = source_N == at
            x_NW[here_N, column] = before_NZ[here_N, at]


def after_visit(
    x_W: Floats,
    visit: Visit,
    *,
    round_now: int,
    freed: tuple[int, int],
    constants: HardConstants,
) -> Floats:
    """The state [11] of one task after a group of it; groups at other scaffolds change nothing."""
    x: Floats = resolved(x_W[None, :], round_now=round_now, freed=freed, constants=constants)[0]
    if (visit.kind, visit.level) == ("none", 0):
        _bare(x, visit, constants)
    elif visit.kind == FEW_SHOT and visit.level > 0 and x[K] != 0:
        _guided(x, visit, constants)
    else:
        return x
    x[ORDINAL], x[ROUND] = visit.ordinal, round_now
    x[LIVE] = float(x[K] != 0 or x[ZEROS : ZEROS + _BUCKETS].any())
    return x


def _bare(x_W: Floats, visit: Visit, constants: HardConstants) -> None:
    """An un-scaffolded group: success makes the task active, enough failures make it hard."""
    x_W[DUE] = 0.0
    if visit.num_success:
        x_W[K] = 0.0
        _clear(x_W)
        return
    x_W[ZEROS] += visit.num_valid
    if x_W[K] == 0 and x_W[ZEROS : ZEROS + _BUCKETS].sum() >= constants.hard_after:
        x_W[K], x_W[GUIDED], x_W[ZERO_ROUNDS] = constants.k_max, 0.0, 0.0


def _guided(x_W: Floats, visit: Visit, constants: HardConstants) -> None:
    """A group with demonstrations, as many as the state asks for or fewer, of a task not active.

    A task that was parked meanwhile (its lease outlived the round) comes back if it passes.
    """
    level = min(visit.level, constants.k_max if x_W[K] == PARKED else int(x_W[K]))
    if visit.num_success >= constants.pass_rate * visit.num_valid:
        x_W[K], x_W[GUIDED], x_W[ZERO_ROUNDS] = level - 1, 0.0, 0.0
        if level == 1:
            _clear(x_W)
    elif x_W[K] != PARKED and visit.num_success:
        x_W[GUIDED], x_W[ZERO_ROUNDS] = 0.0, 0.0
    elif x_W[K] != PARKED:
        x_W[GUIDED] += visit.num_valid


def _clear(x_W: Floats) -> None:
    """Forget all failures."""
    x_W[ZEROS : ZEROS + _BUCKETS] = 0.0
    x_W[GUIDED], x_W[ZERO_ROUNDS] = 0.0, 0.0
