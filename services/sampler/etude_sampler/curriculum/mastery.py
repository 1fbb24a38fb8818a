"""Mastery of sub-tasks and the deficit to their thresholds (algorithms.md 3.4, our choice).

A difference estimator: stored EMAs carry the level, the version's new groups only the drift. The
level is the mean of the EMAs as they were before these groups, the same numbers that the drift is
measured against; taken after them it would count part of the drift twice. Beside it, `trend` tells
mastery as it is now. Neighbours: `state` holds the results, the allocators act on them. Sums are
exactly rounded (`math.fsum`), so order and machine change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from etude_sampler.statistics.arrays import Floats

from .parts import Context
from .state import AllocatorState, FoldInput, SubtaskNumbers
from .trend import Sight, Visits, moved, sight, stands_for


@dataclass(frozen=True, slots=True)
class MasteryKnobs:
    """Constants of the mastery estimate and of the deficit."""

    b: float
    """Step of the EMA of mastery over policy versions."""
    control_only: bool
    """Estimate from lane `uniform` alone, all groups equal."""
    use_iota: bool
    """Weigh groups by importance."""
    tau_K: tuple[float, ...]
    """Thresholds, in lane order."""
    follow_trend: bool = False
    """Deficits are taken of mastery as it is now, not of M."""


def importance(probability_N: Floats, num_waiting_N: Floats | int) -> Floats:
    """`iota = clip(1 / (N_u p), 0.1, 10)`: how much a group stands for (section 3.4).

    Args:
        probability_N: [N] probability of one slot, from the lease.
        num_waiting_N: tasks waiting in lane `uniform` at the time of the lease.
    """
    iota_N: Floats = 1.0 / np.clip(np.maximum(num_waiting_N, 1) * probability_N, 0.1, 10.0)
    return iota_N


def initial_state(num_subtasks: int) -> AllocatorState:
    """Nothing known, all component weights 1."""
    unknown = (math.nan,) * num_subtasks
    return AllocatorState(
        S_K=(0.0,) * num_subtasks,
        n_K=(0,) * num_subtasks,
        M_K=unknown,
        w_K=(1.0,) * num_subtasks,
        se_K=unknown,
        trend_K=(None,) * num_subtasks,
    )


def fold_mastery(
    state: AllocatorState, folded: FoldInput, *, knobs: MasteryKnobs
) -> AllocatorState:
    """The state with everything but the component weights moved by one version."""
    columns = [_fold_one(state, folded, k, knobs=knobs) for k in range(len(state.n_K))]
    return replace(
        state,
        S_K=tuple(column[0] for column in columns),
        n_K=tuple(column[1] for column in columns),
        M_K=tuple(column[2] for column in columns),
        se_K=tuple(column[3] for column in columns),
        trend_K=tuple(
            moved(trend, _sight(state, folded, k, knobs=knobs))
            for k, trend in enumerate(state.trend_K)
        ),
    )


def _fold_one(
    state: AllocatorState, folded: FoldInput, k: int, *, knobs: MasteryKnobs
) -> tuple[float, int, float, float]:
    """Sum, count, mastery and standard error of component `k` after the fold."""
    active_N = ~np.isnan(folded.mean_NK[:, k])
    first_N = active_N & folded.first_NK[:, k]
    again_N = active_N & ~folded.first_NK[:, k]
    total = math.fsum([state.S_K[k], *folded.new_NK[active_N, k], *(-folded.prev_NK[again_N, k])])
    num = state.n_K[k] + int(np.count_nonzero(first_N))
    used_N = active_N & folded.is_control_N if knobs.control_only else active_N
    if num == 0 or not used_N.any():
        return total, num, state.M_K[k], state.se_K[k]
    base = math.fsum([state.S_K[k], *folded.prev_NK[first_N, k]]) / num
    equal = knobs.control_only or not knobs.use_iota
    iota_N = np.ones(int(used_N.sum())) if equal else folded.iota_N[used_N]
    mean_N, prev_N = folded.mean_NK[used_N, k], folded.prev_NK[used_N, k]
    estimate = difference_estimate(base, mean_N - prev_N, iota_N)
    error = standard_error(mean_N - np.where(first_N[used_N], base, prev_N), iota_N)
    before = state.M_K[k]
    mastery = estimate if math.isnan(before) else (1.0 - knobs.b) * before + knobs.b * estimate
    return total, num, mastery, error


def _sight(
    state: AllocatorState, folded: FoldInput, k: int, *, knobs: MasteryKnobs
) -> Sight | None:
    """What the version's groups say of component `k` now."""
    active_N = ~np.isnan(folded.mean_NK[:, k])
    used_N = active_N & folded.is_control_N if knobs.control_only else active_N
    first_N, again_N = used_N & folded.first_NK[:, k], used_N & ~folded.first_NK[:, k]
    equal = knobs.control_only or not knobs.use_iota or not len(folded.probability_N)
    for_N = np.ones(len(used_N)) if equal else stands_for(folded.probability_N)
    visits = Visits(
        first_N=folded.mean_NK[first_N, k],
        first_for_N=for_N[first_N],
        again_N=folded.mean_NK[again_N, k] - folded.prev_NK[again_N, k],
        again_for_N=for_N[again_N],
    )
    return sight(state.S_K[k], state.n_K[k], visits)


def followed(state: AllocatorState, knobs: MasteryKnobs) -> list[float]:
    """The mastery of each sub-task that deficits are taken of; nan: unknown."""
    if not (knobs.follow_trend and state.trend_K):
        return list(state.M_K)
    return [math.nan if trend is None else trend.now for trend in state.trend_K]


def difference_estimate(base: float, differences_N: Floats, iota_N: Floats) -> float:
    """`clip(base + sum(iota d) / sum(iota), 0, 1)`."""
    drift = math.fsum(iota_N * differences_N) / math.fsum(iota_N)
    return min(1.0, max(0.0, base + drift))


def standard_error(residuals_N: Floats, iota_N: Floats) -> float:
    """Standard error of the weighted mean of N residuals; nan for fewer than two.

    `sqrt(N / (N - 1) sum(iota^2 (e - ebar)^2)) / sum(iota)`, the ratio estimator's linearised
    variance. A residual is the group's mean less its prediction: the stored EMA, or on a first
    visit the mean over the tasks seen.
    """
    num = len(residuals_N)
    if num < 2:
        return math.nan
    total = math.fsum(iota_N)
    centre = math.fsum(iota_N * residuals_N) / total
    deviation_N = iota_N * (residuals_N - centre)
    spread = math.fsum(deviation_N * deviation_N)
    return math.sqrt(num / (num - 1) * spread) / total


def prerequisite_factors(
    mastery_K: Sequence[float], tau_K: Sequence[float], *, context: Context
) -> list[float]:
    """`pre_k`: product of `min(1, M_j / tau_j)` over all prerequisites j; unknown M counts as 0."""
    position = {name: k for k, name in enumerate(context.subtasks)}
    reached = [min(1.0, _known(m) / tau) for m, tau in zip(mastery_K, tau_K, strict=True)]
    return [
        math.prod(reached[position[name]] for name in context.prerequisites.get(subtask, ()))
        for subtask in context.subtasks
    ]


def deficits(
    mastery_K: Sequence[float], tau_K: Sequence[float], factors_K: Sequence[float]
) -> list[float]:
    """`z_k = pre_k max(0, tau_k - M_k) / tau_k`, in [0, 1]."""
    return [
        pre * max(0.0, tau - _known(m)) / tau
        for m, tau, pre in zip(mastery_K, tau_K, factors_K, strict=True)
    ]


def view_mastery(
    state: AllocatorState, knobs: MasteryKnobs, *, context: Context
) -> list[SubtaskNumbers]:
    """What the state says of each sub-task, in lane order."""
    mastery_K, tau_K = followed(state, knobs), knobs.tau_K
    factors = prerequisite_factors(mastery_K, tau_K, context=context)
    missing = deficits(mastery_K, tau_K, factors)
    trend_K = state.trend_K or (None,) * len(mastery_K)
    return [
        SubtaskNumbers(
            name=name,
            mastery=None if math.isnan(mastery_K[k]) else mastery_K[k],
            standard_error=None if math.isnan(state.se_K[k]) else state.se_K[k],
            mastery_now=None if (trend := trend_K[k]) is None else trend.now,
            now_error=None if trend is None else trend.standard_error,
            threshold=tau_K[k],
            prerequisite_factor=factors[k],
            deficit=missing[k],
            component_weight=state.w_K[k],
            num_tasks_seen=state.n_K[k],
        )
        for k, name in enumerate(context.subtasks)
    ]


def _known(mastery: float) -> float:
    """Mastery, or 0 while nothing is known."""
    return 0.0 if math.isnan(mastery) else mastery
