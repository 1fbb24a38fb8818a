"""Groups of rollouts as arrays, and their summary over the valid rollouts.

Neighbours: the service builds `OutcomeArrays` from a report; `task.fold` and the gates of
`curriculum` read the `GroupSummary`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .arrays import Bools, Floats, Ints, sum_over_group


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeArrays:
    """The groups of one report; rows are different tasks, padded to the largest group."""

    q_NGK: Floats
    """Components in [0, 1]; nan where the rollout or the component does not exist."""
    reward_NG: Floats
    """Rule reward R before shaping; nan where the rollout does not exist."""
    success_NG: Floats
    """1 or 0; nan where the rollout does not exist."""
    valid_NG: Bools
    """False for infrastructure failures and for padding."""
    root_share_N: Floats = field(default_factory=lambda: np.ones(0))
    """Share of a group's rollouts that began with the prompt, the others being branches of them
    (algorithms.md 8); empty: all did, in every group."""

    def __post_init__(self) -> None:
        """Refuse arrays whose shapes disagree."""
        if self.q_NGK.ndim != 3 or self.q_NGK.shape[1] < 1:
            raise ValueError(f"q_NGK must be [N, G >= 1, K], not {self.q_NGK.shape}")
        for name in ("reward_NG", "success_NG", "valid_NG"):
            if getattr(self, name).shape != self.q_NGK.shape[:2]:
                raise ValueError(f"{name} must be [N, G] like q_NGK")
        if len(self.root_share_N) not in (0, len(self.q_NGK)):
            raise ValueError("root_share_N must be empty or [N]")


@dataclass(frozen=True, slots=True, eq=False)
class GroupSummary:
    """What a group says of its task; N rows. Only valid rollouts count."""

    num_valid_N: Ints
    num_success_N: Ints
    mean_NK: Floats
    """Mean of each component; nan where inactive."""
    var_NK: Floats
    """Population variance of each component; nan where inactive."""
    reward_mean_N: Floats
    """Nan where no rollout is valid."""
    reward_var_N: Floats
    """Population variance of R; nan where no rollout is valid."""
    full_N: Bools
    """Every valid rollout has every active component equal to 1."""
    root_share_N: Floats
    """What each success or failure counts where counts become beliefs: branches of a rollout are
    not independent of it. 1 without branches."""


def summarise(outcomes: OutcomeArrays) -> GroupSummary:
    """Summarise groups over their valid rollouts (algorithms.md 3.2, our choice).

    A component counts as active in a group if any valid rollout carries it; its moments run over
    the valid rollouts that do. The result of a row does not depend on the other rows.
    """
    valid_NG = outcomes.valid_NG
    has_NGK = valid_NG[:, :, None] & ~np.isnan(outcomes.q_NGK)
    num_NK = np.count_nonzero(has_NGK, axis=1)
    mean_NK, var_NK = _moments(outcomes.q_NGK, has_NGK, num_NK)
    num_valid_N = np.count_nonzero(valid_NG, axis=1)
    reward_mean_N, reward_var_N = _moments(outcomes.reward_NG, valid_NG, num_valid_N)
    perfect_NK = np.all(~has_NGK | (outcomes.q_NGK == 1.0), axis=1)
    return GroupSummary(
        num_valid_N=num_valid_N.astype(np.int64),
        num_success_N=np.count_nonzero(valid_NG & (outcomes.success_NG == 1.0), axis=1).astype(
            np.int64
        ),
        mean_NK=mean_NK,
        var_NK=var_NK,
        reward_mean_N=reward_mean_N,
        reward_var_N=reward_var_N,
        full_N=np.all(perfect_NK, axis=1) & np.any(num_NK > 0, axis=1),
        root_share_N=outcomes.root_share_N
        if len(outcomes.root_share_N)
        else np.ones(len(num_valid_N)),
    )


def _moments(values: Floats, mask: Bools, num: Ints) -> tuple[Floats, Floats]:
    """Mean and population variance over axis 1 where `mask`; nan where `num` is 0."""
    some = num > 0
    nothing = np.full(num.shape, np.nan)
    mean = np.divide(
        sum_over_group(np.where(mask, values, 0.0)), num, out=nothing.copy(), where=some
    )
    deviation = np.where(mask, values - mean[:, None], 0.0)
    var = np.divide(sum_over_group(deviation * deviation), num, out=nothing, where=some)
    return mean, var
