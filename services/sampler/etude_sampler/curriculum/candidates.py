"""Candidates of a pooled prompt batch, and the choice among them (algorithms.md 1.2, L8).

A pool leases more tasks than are asked for, scores them and keeps the best. Neighbours: `pools`
scores, the service leases and releases, `simulation` does the same without servers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Bools, Floats, TaskStatistics

Chance = Callable[[int], Floats]
"""Number 1, 2, ... of each candidate: [N] in (0, 1], a function of seed, task and entry alone."""
SHUFFLE = 1
"""The candidates' number that decides ties; parts take theirs from 2 on."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What is known of N leased candidates."""

    stats: TaskStatistics
    """Statistics as of the draw: nobody else may report a leased task."""
    prediction_N: Floats
    """Posted predictions of success; nan where there is none."""
    pass_rate_N: Floats
    """Pass rates that the tasks came with (`metadata.pass_rate`); nan where there is none."""
    version: int
    """Policy version of the choice."""
    chance: Chance
    """Chance of each candidate."""


def num_candidates(num_tasks: int, *, factor: float, most: int) -> int:
    """Tasks to lease in order to keep `num_tasks`: `factor` times as many, `most` at most."""
    return max(num_tasks, min(math.ceil(factor * num_tasks), most))


def num_control(num_tasks: int, *, share: float, chance: float) -> int:
    """Slots of the control arm among `num_tasks`: `share` of them on average (our choice).

    Args:
        num_tasks: tasks to keep.
        share: share of the control arm, in [0, 1].
        chance: in (0, 1]; rounds a fraction up with the probability of that fraction.
    """
    wanted = share * num_tasks
    whole = math.floor(wanted)
    return min(num_tasks, whole + (chance <= wanted - whole))


def choose(
    values_N: Floats, *, num_kept: int, num_control: int, shuffle_N: Floats, control_N: Floats
) -> tuple[Bools, Bools]:
    """Who is kept: the control arm by chance alone, then the smallest values (our choice).

    Args:
        values_N: [N] values of the pool's part; the smallest are kept, nan comes last.
        num_kept: tasks to keep, at most N.
        num_control: how many of them are the control arm.
        shuffle_N: [N] chance that decides ties.
        control_N: [N] chance that decides the control arm.

    Returns:
        [N] masks of the control arm and of the chosen; no task is in both.
    """
    is_control_N = np.zeros(len(values_N), dtype=np.bool_)
    is_control_N[np.argsort(control_N, kind="stable")[:num_control]] = True
    rest = np.flatnonzero(~is_control_N)
    order = np.lexsort((shuffle_N[rest], values_N[rest]))
    is_chosen_N = np.zeros_like(is_control_N)
    is_chosen_N[rest[order[: num_kept - num_control]]] = True
    return is_control_N, is_chosen_N
