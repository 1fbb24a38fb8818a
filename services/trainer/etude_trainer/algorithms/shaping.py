"""Shaping: what lengths and difficulty add to a reward, or scale in an advantage (section 7).

Pure functions of tensors over one group. They act on the advantage only: the sampler's statistics
never see them. `stages/credit.py` applies those that the configuration names.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

DIFFICULTY: Final = 4.0 * 1.8
"""Scale of Observe-R1's weight: 1.8 where half of the rollouts succeed (2505.12432)."""
SHORTEST_BONUS: Final = 0.2
SHORTEST_OVER: Final = 100
"""Completions up to so many tokens get no bonus for being short (Observe-R1)."""


def overlong(length_G: Tensor, *, longest: int, cache: int) -> Tensor:
    """0 up to Lmax - Lc, then a straight line to -1 at Lmax, -1 beyond (DAPO, 2503.14476).

    Raises:
        ValueError: not 0 < Lc <= Lmax.
    """
    if not 0 < cache <= longest:
        raise ValueError("the cache must lie between 1 and the longest length")
    over_G = (longest - cache - length_G.double()) / cache
    return over_G.clamp(min=-1.0, max=0.0)


def kimi_length(length_G: Tensor, right_G: Tensor) -> Tensor:
    """`x = .5 - (len - min) / (max - min)`, 0 if all are equally long; wrong ones get min(0, x).

    Kimi k1.5 (2501.12599).
    """
    length_G = length_G.double()
    shortest, spread = length_G.min(), length_G.max() - length_G.min()
    if not bool(spread > 0):
        return torch.zeros_like(length_G)
    x_G = 0.5 - (length_G - shortest) / spread
    return torch.where(right_G.bool(), x_G, x_G.clamp(max=0.0))


def difficulty_factor(success_share: float) -> float:
    """`4 x 1.8 p (1 - p)`: most for groups that succeed half of the time (Observe-R1)."""
    return DIFFICULTY * success_share * (1.0 - success_share)


def shortest_right(length_G: Tensor, right_G: Tensor) -> Tensor:
    """.2 for the shortest right completion over 100 tokens, 0 elsewhere (Observe-R1).

    Only if there is one: the released code gives it to the first rollout otherwise. The first of
    equally short ones gets it.
    """
    bonus_G = torch.zeros_like(length_G, dtype=torch.float64)
    long_G = right_G.bool() & (length_G > SHORTEST_OVER)
    if bool(long_G.any()):
        barred_G = torch.where(long_G, length_G.double(), float("inf"))
        bonus_G[int(barred_G.argmin())] = SHORTEST_BONUS
    return bonus_G
