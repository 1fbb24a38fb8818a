"""Advantages: how much better a rollout did than the others of its group.

Used by `stages/learn.py`, once a group; in float64, because equal rewards must give exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from torch import Tensor

AdvantageKind = Literal["grpo", "dr_grpo"]

EPSILON: Final = 1e-6
"""Added to the standard deviation (GRPO, 2402.03300)."""


def _spread(rewards_G: Tensor, *, population: bool) -> Tensor:
    """Standard deviation; exactly 0 where all rewards are equal, whatever the rounding."""
    if bool((rewards_G == rewards_G[0]).all()):
        return rewards_G.new_zeros(())
    return rewards_G.std(correction=0 if population else 1)


def grpo(rewards_G: Tensor, *, std_floor: float | None, population: bool = False) -> Tensor:
    """`(R - mean) / (std + 1e-6)`; with a floor s0, `(R - mean) / max(std, s0)`.

    GRPO (2402.03300, outcome supervision) with the sample standard deviation, as its public
    implementations have it; `population` divides by G instead (the identities of the
    specification's section 1). The floor is our choice: without it a bonus of .01 in an otherwise
    equal group is blown up to full size.
    """
    centred_G = dr_grpo(rewards_G, std_floor=None)
    std = _spread(rewards_G, population=population)
    if std_floor is not None:
        return centred_G / std.clamp(min=std_floor)
    return centred_G / (std + EPSILON)


def dr_grpo(rewards_G: Tensor, *, std_floor: float | None) -> Tensor:
    """`R - mean` (Dr. GRPO, 2503.20783): no division, hence nothing for a floor to do."""
    if std_floor is not None:
        raise ValueError("dr_grpo divides by nothing: std_floor does not apply")
    if bool((rewards_G == rewards_G[0]).all()):
        return rewards_G.new_zeros(rewards_G.shape)
    return rewards_G - rewards_G.mean()


ADVANTAGES: Final[dict[AdvantageKind, Callable[..., Tensor]]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
}


def group_advantages(
    rewards_G: Tensor, *, kind: AdvantageKind, std_floor: float | None = None
) -> Tensor:
    """Advantages [G], float64, of one group's rewards [G] (R plus shaping).

    A group of one, or of equal rewards, teaches nothing: zeros, never NaN.

    Raises:
        ValueError: no rewards, or rewards that are not finite.
    """
    if rewards_G.ndim != 1 or len(rewards_G) == 0:
        raise ValueError("rewards must be a non-empty vector")
    rewards_G = rewards_G.double()
    if not bool(rewards_G.isfinite().all()):
        raise ValueError("rewards must be finite")
    return ADVANTAGES[kind](rewards_G, std_floor=std_floor)


def whiten(advantages_S: Tensor) -> Tensor:
    """Advantages [S] of a whole batch, shifted and scaled to mean 0 and sample deviation 1.

    Optional (REINFORCE++, 2501.03262, and our decoupled advantages use it); zeros where all are
    equal.
    """
    if len(advantages_S) == 0:
        return advantages_S
    std = _spread(advantages_S, population=False)
    if not bool(std > 0):
        return advantages_S.new_zeros(advantages_S.shape)
    return (advantages_S - advantages_S.mean()) / (std + EPSILON)
