"""Groups of rollouts for tests of the pure core, from plain lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from etude_sampler.curriculum import FoldInput
from etude_sampler.statistics import Floats, OutcomeArrays

COMPONENTS = ("format", "tool_name", "param_name", "param_value")
"""ToolRL's components, in lane order."""


def outcomes(
    q: Sequence[Mapping[str, Sequence[float]]],
    *,
    rewards: Sequence[Sequence[float]] | None = None,
    names: Sequence[str] = COMPONENTS,
) -> OutcomeArrays:
    """Groups of equal size from component -> values of the rollouts; absent ones are inactive.

    The reward defaults to the sum of the components, success to all of them being 1.
    """
    size = len(next(iter(q[0].values())))
    q_NGK = np.full((len(q), size, len(names)), np.nan)
    for row, group in enumerate(q):
        for name, values in group.items():
            q_NGK[row, :, names.index(name)] = values
    reward_NG = np.nansum(q_NGK, axis=2) if rewards is None else np.array(rewards, dtype=float)
    success_NG = np.all(np.isnan(q_NGK) | (q_NGK == 1.0), axis=2).astype(np.float64)
    return OutcomeArrays(
        q_NGK=q_NGK,
        reward_NG=reward_NG,
        success_NG=success_NG,
        valid_NG=np.ones((len(q), size), dtype=np.bool_),
    )


def binary_group(size: int, num_right: int) -> OutcomeArrays:
    """One group with one component, `num_right` of `size` rollouts right; the reward is success."""
    values = [1.0] * num_right + [0.0] * (size - num_right)
    return outcomes([{"success": values}], names=("success",))


def fold_input(
    mean_NK: Floats,
    prev_NK: Floats | None = None,
    new_NK: Floats | None = None,
    *,
    iota_N: Floats | None = None,
    is_control_N: Sequence[bool] | None = None,
    num_acked_batches: int = 2,
) -> FoldInput:
    """Groups of one version, 2 of 4 right; without `prev_NK` all are first visits."""
    first_NK = np.isnan(np.full(mean_NK.shape, np.nan) if prev_NK is None else prev_NK)
    prev = mean_NK if prev_NK is None else np.where(first_NK, mean_NK, prev_NK)
    num = len(mean_NK)
    return FoldInput(
        mean_NK=mean_NK,
        prev_NK=prev,
        new_NK=(prev + mean_NK) / 2 if new_NK is None else new_NK,
        first_NK=first_NK & ~np.isnan(mean_NK),
        iota_N=np.ones(num) if iota_N is None else iota_N,
        is_control_N=np.array([False] * num if is_control_N is None else is_control_N),
        num_acked_batches=num_acked_batches,
        ordinal_N=np.arange(num),
        num_valid_N=np.full(num, 4),
        num_success_N=np.full(num, 2),
        reward_mean_N=np.full(num, 0.5),
        reward_var_N=np.full(num, 0.25),
        x_NE=np.zeros((num, 0)),
    )
