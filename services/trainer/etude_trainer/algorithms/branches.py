"""Advantages of tokens that several rollouts share: ARPO's branches (2507.19849; algorithms.md 8).

A branch is cloned from another rollout in mid-episode; up to there both hold the same tokens. Soft
(the default): every copy of a shared token has its own rollout's advantage. Hard: all copies have
the mean of the rollouts that go through it. Used by `stages/credit.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def roots_of(parents: Sequence[int]) -> tuple[int, ...]:
    """The root that each rollout goes back to, itself for roots (parent -1).

    Raises:
        ValueError: a rollout goes back to itself.
    """
    roots = []
    for at in range(len(parents)):
        root = at
        for _ in parents:
            if parents[root] < 0:
                break
            root = parents[root]
        else:
            raise ValueError("a branch goes back to itself")
        roots.append(root)
    return tuple(roots)


def shared_lengths(
    tokens_G: Sequence[NDArray[np.int32]], roots_G: Sequence[int]
) -> NDArray[np.int64]:
    """[G, G]: leading tokens that two rollouts of one root have in common; 0 for other pairs."""
    num = len(tokens_G)
    shared_GG = np.zeros((num, num), dtype=np.int64)
    for i in range(num):
        shared_GG[i, i] = len(tokens_G[i])
        for j in range(i):
            if roots_G[i] != roots_G[j]:
                continue
            least = min(len(tokens_G[i]), len(tokens_G[j]))
            differs = np.flatnonzero(tokens_G[i][:least] != tokens_G[j][:least])
            shared_GG[i, j] = shared_GG[j, i] = int(differs[0]) if len(differs) else least
    return shared_GG


def hard_advantages(
    advantages_G: Tensor, shared_GG: NDArray[np.int64], positions_G: Sequence[NDArray[np.int64]]
) -> list[Tensor]:
    """Advantages of the trained tokens of each rollout: the mean over those that go through them.

    Args:
        advantages_G: of the rollouts.
        shared_GG: leading tokens in common (`shared_lengths`).
        positions_G: where each rollout's trained tokens stand.
    """
    found = []
    for at, positions_n in enumerate(positions_G):
        goes_nG = torch.from_numpy(positions_n[:, None] < shared_GG[at][None, :])
        through_n = goes_nG.sum(dim=1)
        found.append((goes_nG * advantages_G[None, :]).sum(dim=1) / through_n)
    return found
