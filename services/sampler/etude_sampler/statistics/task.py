"""Statistics of tasks (algorithms.md 1.1 and 3.2), folded one applied group at a time.

Neighbours: `group` gives the summaries, `store` keeps the rows, `curriculum` weighs them. EMAs
depend on order: the caller folds a task's groups in ledger order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from .arrays import Bools, Floats, Ints
from .group import GroupSummary
from .notes import Note, fold_notes


@dataclass(frozen=True, slots=True)
class EstimatorConstants:
    """Constants of the estimator (algorithms.md 1.1 and 3.7; all our choice)."""

    a: float = 0.5
    """Step of the EMAs of component and reward moments, in (0, 1]."""
    lam: float = 0.9
    """Decay per group of the success and failure counts, in (0, 1]."""
    alpha: float = 0.5
    """Step of the EMA of the success share, in (0, 1]."""
    max_lag_versions: int = 8
    """Outcomes older than this many policy versions are stored, not applied (at least 0)."""

    def __post_init__(self) -> None:
        """Refuse constants outside their ranges."""
        for name in ("a", "lam", "alpha"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in (0, 1]")
        if self.max_lag_versions < 0:
            raise ValueError("max_lag_versions must be at least 0")


@dataclass(frozen=True, slots=True, eq=False)
class TaskStatistics:
    """Statistics of N tasks at one scaffold level, as arrays (structure of arrays)."""

    s_N: Floats
    """Decayed successes."""
    f_N: Floats
    """Decayed failures."""
    ema_N: Floats
    """EMA of the success share; 0 before the first group."""
    z_easy_N: Ints
    """Groups in a row with every rollout right."""
    z_hard_N: Ints
    """Groups in a row with every rollout wrong."""
    abs_a_N: Floats
    """`2 sqrt(phat (1 - phat))` of the last group."""
    m_NK: Floats
    """EMA of each component's mean; nan: never seen, or inactive."""
    v_NK: Floats
    """EMA of each component's population variance; nan as `m_NK`."""
    reward_mean_N: Floats
    """EMA of the reward's mean; 0 before the first group."""
    reward_var_N: Floats
    """EMA of the reward's population variance; 0 before the first group."""
    full_N: Ints
    """Groups in a row in which every component of every rollout was 1."""
    n_N: Ints
    """Groups applied."""
    last_N: Ints
    """Policy version of the last applied group; -1: never."""
    x_NE: Floats
    """What the run's parts remember of the task (`notes`); E = 0 for most runs."""

    def select(self, rows: Ints | Bools | slice) -> TaskStatistics:
        """The statistics of `rows` (positions, a mask or a slice), in that order."""
        return TaskStatistics(*(getattr(self, field.name)[rows] for field in fields(self)))


def empty(n: int, k: int, fresh: Sequence[float] = ()) -> TaskStatistics:
    """Statistics of `n` tasks never seen, with `k` components and the `fresh` values of notes."""
    return TaskStatistics(
        s_N=np.zeros(n),
        f_N=np.zeros(n),
        ema_N=np.zeros(n),
        z_easy_N=np.zeros(n, np.int64),
        z_hard_N=np.zeros(n, np.int64),
        abs_a_N=np.zeros(n),
        m_NK=np.full((n, k), np.nan),
        v_NK=np.full((n, k), np.nan),
        reward_mean_N=np.zeros(n),
        reward_var_N=np.zeros(n),
        full_N=np.zeros(n, np.int64),
        n_N=np.zeros(n, np.int64),
        last_N=np.full(n, -1, np.int64),
        x_NE=np.tile(np.array(fresh, dtype=np.float64), (n, 1)),
    )


def fold(
    stats: TaskStatistics,
    summary: GroupSummary,
    *,
    version_N: Ints,
    constants: EstimatorConstants,
    notes: Sequence[Note] = (),
) -> TaskStatistics:
    """Fold one group into each of N tasks (algorithms.md 1.1 and 3.2).

    Args:
        stats: N rows, one a task.
        summary: the N tasks' groups, in the same order.
        version_N: policy version of each group.
        constants: decay and EMA steps.
        notes: what `x_NE` holds, in that order.

    Returns:
        New statistics; the inputs are unchanged. A row depends on no other row.

    Raises:
        ValueError: a group has no valid rollout. A bare group needs two (rule C2), which the
            caller sees to; a rung of a ladder may be a single rollout.
    """
    if np.any(summary.num_valid_N < 1):
        raise ValueError("a group without a valid rollout is never folded")
    won_N, num_N = summary.num_success_N, summary.num_valid_N
    phat_N = won_N / num_N
    first_N, told_N = stats.n_N == 0, summary.root_share_N
    return TaskStatistics(
        s_N=constants.lam * stats.s_N + told_N * won_N,
        f_N=constants.lam * stats.f_N + told_N * (num_N - won_N),
        ema_N=_ema(stats.ema_N, phat_N, first=first_N, step=constants.alpha),
        z_easy_N=np.where(won_N == num_N, stats.z_easy_N + 1, 0),
        z_hard_N=np.where(won_N == 0, stats.z_hard_N + 1, 0),
        abs_a_N=2.0 * np.sqrt(phat_N * (1.0 - phat_N)),
        m_NK=_component_ema(stats.m_NK, summary.mean_NK, constants.a),
        v_NK=_component_ema(stats.v_NK, summary.var_NK, constants.a),
        reward_mean_N=_ema(
            stats.reward_mean_N, summary.reward_mean_N, first=first_N, step=constants.a
        ),
        reward_var_N=_ema(
            stats.reward_var_N, summary.reward_var_N, first=first_N, step=constants.a
        ),
        full_N=np.where(summary.full_N, stats.full_N + 1, 0),
        n_N=stats.n_N + 1,
        last_N=version_N.astype(np.int64),
        x_NE=fold_notes(notes, stats, summary, version_N),
    )


def _ema(old: Floats, new: Floats, *, first: Bools, step: float) -> Floats:
    """`(1 - step) old + step new`, or `new` at the first visit."""
    return np.where(first, new, (1.0 - step) * old + step * new)


def _component_ema(old_NK: Floats, new_NK: Floats, step: float) -> Floats:
    """EMA of a component; a group without the component leaves it as it was."""
    moved_NK = _ema(old_NK, new_NK, first=np.isnan(old_NK), step=step)
    return np.where(np.isnan(new_NK), old_NK, moved_NK)
