"""What a version of the simulated learner folds: its groups, one batch after another.

Neighbours: `practice` collects them, `curriculum` folds them as it does those of real runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from etude_sampler.curriculum import FoldInput, importance
from etude_sampler.leasing import Drawn
from etude_sampler.statistics import Floats, GroupSummary, TaskStatistics


@dataclass(frozen=True, slots=True, eq=False)
class Reported:
    """One batch and what it did to the statistics of its tasks."""

    drawn: Drawn
    summary: GroupSummary
    before_NK: Floats
    """Stored component EMAs before the groups; nan: never seen, or inactive."""
    after_NK: Floats
    """And after them."""
    num_groups: int
    """Groups of the batch, guided ones included."""


def fold_input(
    batches: Sequence[Reported],
    stats: TaskStatistics,
    features_NF: Floats,
    *,
    version: int,
    live_column: int | None = None,
) -> FoldInput:
    """The groups reported since the last version, in order, kept or not.

    Args:
        batches: since the last version; there may be none.
        stats: of all tasks, now.
        features_NF: of all tasks; F = 0 if the weigher reads none.
        version: the version that these groups lead to.
        live_column: of the notes; tasks where it is not 0 are of hard sampling's census.
    """
    if not batches:
        return replace(
            _nothing(stats, features_NF, version=version), live_ME=_live(stats, live_column)
        )
    mean_NK = np.concatenate([one.summary.mean_NK for one in batches])
    stored_NK = np.concatenate([one.before_NK for one in batches])
    first_NK = np.isnan(stored_NK) & ~np.isnan(mean_NK)
    ordinal_N = np.concatenate([one.drawn.tasks_B for one in batches])
    return FoldInput(
        mean_NK=mean_NK,
        prev_NK=np.where(first_NK, mean_NK, stored_NK),
        new_NK=np.concatenate([one.after_NK for one in batches]),
        first_NK=first_NK,
        iota_N=np.concatenate(
            [importance(one.drawn.probability_B, one.drawn.num_waiting) for one in batches]
        ),
        is_control_N=np.concatenate([one.drawn.lanes_B == 0 for one in batches]),
        num_acked_batches=version,
        probability_N=np.concatenate([one.drawn.probability_B for one in batches]),
        ordinal_N=ordinal_N,
        num_valid_N=np.concatenate([one.summary.num_valid_N for one in batches]),
        num_success_N=np.concatenate([one.summary.num_success_N for one in batches]),
        reward_mean_N=np.concatenate([one.summary.reward_mean_N for one in batches]),
        reward_var_N=np.concatenate([one.summary.reward_var_N for one in batches]),
        x_NE=stats.x_NE[ordinal_N],
        features_NF=features_NF[ordinal_N],
        num_groups=sum(one.num_groups for one in batches),
        num_tasks=len(stats.n_N),
        live_ME=_live(stats, live_column),
    )


def _live(stats: TaskStatistics, column: int | None) -> Floats:
    """Notes of the tasks that hard sampling has something to remember of."""
    return stats.x_NE[:0] if column is None else stats.x_NE[stats.x_NE[:, column] != 0]


def _nothing(stats: TaskStatistics, features_NF: Floats, *, version: int) -> FoldInput:
    """A fold without groups."""
    none_NK, none_N = stats.m_NK[:0], stats.s_N[:0]
    no_NK = none_NK.astype(np.bool_)
    return FoldInput(
        *(none_NK, none_NK, none_NK, no_NK, none_N, none_N.astype(np.bool_), version),
        x_NE=stats.x_NE[:0],
        features_NF=features_NF[:0],
        num_tasks=len(stats.n_N),
    )
