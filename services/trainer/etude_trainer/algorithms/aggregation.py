"""Aggregation: what one token's loss weighs in the loss of its mini-batch.

The loss of a mini-batch is `sum(weight_N * loss_N)`. Because every weight is fixed from the whole
mini-batch before the first micro-batch runs, the gradient does not depend on how the sequences
are packed. Used by `stages/learn.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor

Aggregation = Literal["token_mean", "sequence_mean", "dr_grpo"]


def _token_mean(lengths_S: Tensor, _sizes_S: Tensor, _max_tokens: int) -> Tensor:
    """Every token alike: sum of tokens / tokens (DAPO, 2503.14476)."""
    return torch.full_like(lengths_S, 1.0) / lengths_S.sum()


def _sequence_mean(lengths_S: Tensor, sizes_S: Tensor, _max_tokens: int) -> Tensor:
    """Every group alike, every sequence of a group alike: means of token means (2402.03300)."""
    return 1.0 / (lengths_S * sizes_S)


def _dr_grpo(lengths_S: Tensor, sizes_S: Tensor, max_tokens: int) -> Tensor:
    """Sum of tokens / (sequences x L_max), so that length is no discount (2503.20783)."""
    return torch.full_like(lengths_S, 1.0) / (sizes_S * max_tokens)


AGGREGATIONS: Final[dict[Aggregation, Callable[[Tensor, Tensor, int], Tensor]]] = {
    "token_mean": _token_mean,
    "sequence_mean": _sequence_mean,
    "dr_grpo": _dr_grpo,
}


def token_weights(
    lengths_S: Tensor, groups_S: Tensor, *, aggregation: Aggregation, max_tokens: int
) -> Tensor:
    """Weight of every trained token, float64 [N], N = sum of `lengths_S`, sequence by sequence.

    Groups weigh equally, whatever their number of sequences, unless every token is alike
    (`token_mean`; rule C7, ours). With groups of one size that is the papers' mean over sequences.

    Args:
        lengths_S: trained tokens of each sequence of the mini-batch, all >= 1.
        groups_S: the group of each sequence, numbered from 0 without a hole.
        aggregation: how tokens and sequences are averaged.
        max_tokens: L_max, the longest completion allowed (for `dr_grpo`).
    """
    if bool((lengths_S < 1).any()):
        raise ValueError("every sequence needs at least one trained token")
    members_G = groups_S.bincount()
    # What `mean over groups of means over sequences` divides a sequence by.
    sizes_S = (members_G[groups_S] * len(members_G)).double()
    weights_S = AGGREGATIONS[aggregation](lengths_S.double(), sizes_S, max_tokens)
    return weights_S.repeat_interleave(lengths_S)
