"""Aggregation: what one token's loss weighs in the loss of its mini-batch.

The loss of a mini-batch is `sum(weight_N * loss_N)`. Because every weight is fixed from the whole
mini-batch before the first micro-batch runs, the gradient does not depend on how the sequences
are packed. Used by `stages/learn.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

Aggregation = Literal["token_mean", "local_token_mean", "sequence_mean", "dr_grpo"]


@dataclass(frozen=True, slots=True)
class _Constants:
    max_tokens: int
    block: int
    """Sequences of a block."""


def _token_mean(lengths_S: Tensor, _sizes_S: Tensor, _constants: _Constants) -> Tensor:
    """Every token alike: sum of tokens / tokens (DAPO, 2503.14476)."""
    return torch.full_like(lengths_S, 1.0) / lengths_S.sum()


def _local_token_mean(lengths_S: Tensor, _sizes_S: Tensor, constants: _Constants) -> Tensor:
    """Mean over blocks of sequences of the blocks' token means: local normalisation ("BNPO").

    Released trainers take for a block what one device computes at a time, so that the mathematics
    depends on memory. Here a block is so many sequences in the batch's order, however they are
    packed (our choice).
    """
    block_S = torch.arange(len(lengths_S), device=lengths_S.device) // constants.block
    num_blocks = int(block_S[-1]) + 1
    tokens_b = torch.zeros(num_blocks, dtype=lengths_S.dtype, device=lengths_S.device)
    tokens_b = tokens_b.index_add(0, block_S, lengths_S)
    return 1.0 / (num_blocks * tokens_b[block_S])


def _sequence_mean(lengths_S: Tensor, sizes_S: Tensor, _constants: _Constants) -> Tensor:
    """Every group alike, every sequence of a group alike: means of token means (2402.03300)."""
    return 1.0 / (lengths_S * sizes_S)


def _dr_grpo(lengths_S: Tensor, sizes_S: Tensor, constants: _Constants) -> Tensor:
    """Sum of tokens / (sequences x L_max), so that length is no discount (2503.20783)."""
    return torch.full_like(lengths_S, 1.0) / (sizes_S * constants.max_tokens)


AGGREGATIONS: Final[dict[Aggregation, Callable[[Tensor, Tensor, _Constants], Tensor]]] = {
    "token_mean": _token_mean,
    "local_token_mean": _local_token_mean,
    "sequence_mean": _sequence_mean,
    "dr_grpo": _dr_grpo,
}


def token_weights(
    lengths_S: Tensor,
    groups_S: Tensor,
    *,
    aggregation: Aggregation,
    max_tokens: int,
    local_sequences: int = 0,
) -> Tensor:
    """Weight of every trained token, float64 [N], N = sum of `lengths_S`, sequence by sequence.

    Groups weigh equally, whatever their number of sequences, unless every token is alike
    (`token_mean`, `local_token_mean`; rule C7, ours). With groups of one size that is the papers'
    mean over sequences.

    Args:
        lengths_S: trained tokens of each sequence of the mini-batch, all >= 1.
        groups_S: the group of each sequence, numbered from 0 without a hole.
        aggregation: how tokens and sequences are averaged.
        max_tokens: L_max, the longest completion allowed (for `dr_grpo`).
        local_sequences: sequences of a block (for `local_token_mean`); 0 is all of them.
    """
    if bool((lengths_S < 1).any()):
        raise ValueError("every sequence needs at least one trained token")
    members_G = groups_S.bincount()
    # What `mean over groups of means over sequences` divides a sequence by.
    sizes_S = (members_G[groups_S] * len(members_G)).double()
    constants = _Constants(max_tokens, local_sequences or len(lengths_S))
    weights_S = AGGREGATIONS[aggregation](lengths_S.double(), sizes_S, constants)
    return weights_S.repeat_interleave(lengths_S)
