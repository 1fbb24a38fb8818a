"""The last rewards of a task, as a note: successes and sizes of its last groups.

Used by budget `knapsack`. Rollouts of a group have no order, so the oldest group that is needed
counts by its share: exact up to that (our choice).
"""

from __future__ import annotations

import numpy as np

from etude_sampler.statistics import Floats, GroupSummary, Ints, Note, TaskStatistics

WINDOW = 16
"""Rewards that count."""
_GROUPS = WINDOW // 2
"""Groups that are kept: each has at least two rollouts."""


def _fold(x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints) -> Floats:
    """The newest group goes in front, the oldest is forgotten."""
    newest_N2 = np.stack([summary.num_success_N, summary.num_valid_N], axis=1).astype(np.float64)
    return np.concatenate([newest_N2, x_NW[:, :-2]], axis=1)


LAST_REWARDS = Note("last_rewards", (0.0,) * (2 * _GROUPS), _fold)
"""(successes, rollouts) of the last groups, newest first."""


def last_rewards(x_NW: Floats) -> tuple[Floats, Floats]:
    """Successes [N] among the last rewards, and how many of these are known [N], at most 16."""
    won_N, known_N = np.zeros(len(x_NW)), np.zeros(len(x_NW))
    for column in range(0, 2 * _GROUPS, 2):
        m_N, n_N = x_NW[:, column], x_NW[:, column + 1]
        taken_N = np.minimum(n_N, WINDOW - known_N)
        won_N += np.where(n_N > 0, m_N * taken_N / np.maximum(n_N, 1.0), 0.0)
        known_N += taken_N
    return won_N, known_N
