"""Note `visits`: how much the averages of a task stand for, and of when they are (our choice).

The shared statistics keep moving averages of a task's components and success; this note adds what
is needed to read them as counts at a time, before and after the last group. Neighbours: `model`
reads it, `statistics.notes` folds it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from etude_sampler.statistics import (
    EstimatorConstants,
    Floats,
    GroupSummary,
    Ints,
    Note,
    TaskStatistics,
)

TIME, ROLLOUTS, TIME_BEFORE, ROLLOUTS_BEFORE, SUCCESS_BEFORE = range(5)
"""Columns: mean policy version and effective rollouts of the averages, the same before the last
group, and the average success before it."""
STEP: Final = EstimatorConstants().a
"""Step of the averages."""


def effective(before_N: Floats, fresh_N: Floats) -> Floats:
    """Rollouts that the average `(1 - a) old + a new` is worth: variances of 1/n add up.

    `1 / ((1 - a)^2 / n_old + a^2 / n_new)`; the new ones alone at a first visit (n_old = 0).
    """
    old_N = np.where(before_N > 0.0, before_N, 1.0)
    both_N = 1.0 / ((1.0 - STEP) * (1.0 - STEP) / old_N + STEP * STEP / fresh_N)
    return np.where(before_N > 0.0, both_N, fresh_N)


def fold_visits(
    x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints
) -> Floats:
    """The note after one group of each task."""
    first_N = before.n_N == 0
    version = version_N.astype(np.float64)
    old_N = x_NW[:, TIME]
    return np.stack(
        [
            np.where(first_N, version, (1.0 - STEP) * old_N + STEP * version),
            effective(x_NW[:, ROLLOUTS], summary.num_valid_N.astype(np.float64)),
            old_N,
            x_NW[:, ROLLOUTS],
            before.ema_N,
        ],
        axis=1,
    )


VISITS = Note("visits", fresh=(0.0,) * 5, fold=fold_visits)
"""Five numbers a task."""
