"""Tensors of a step: the flat arrays of its trained tokens, and micro-batches that index them.

The trained tokens of all S sequences are numbered 0..N-1, sequence by sequence. Everything that is
known of a token (advantage, engine's and old log-probability, weight) is one array [N]; a
micro-batch carries the numbers of its tokens. Built by `stages/learn.py` from `layout.py`'s plan,
run by `model.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from .attention import BLOCK_TOKENS
from .batch import TokenSequence
from .layout import Row
from .throughput import PassWork


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass: B rows padded on the right to L tokens, or a line; n trained tokens."""

    ids_BL: Tensor
    positions_BL: Tensor | None
    """None where every row is an ordinary sequence."""
    mask_B1LL: Tensor | None
    """True where a position (third axis) may look at another (fourth); None for plain causal
    attention, to which right padding is invisible, and for a line."""
    trees_2L: Tensor | None
    """Of a line, int32: the row of each position, -1 for padding, and its branch there, 0 for what
    the branches share. None where rows lie below one another."""
    source_n: Tensor
    """Position in the flattened [B * L] whose hidden state predicts the token."""
    target_n: Tensor
    """The token's id."""
    token_n: Tensor
    """The token's number among the step's N."""
    work: PassWork
    """What the pass computes, for the metrics."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device."""
        return MicroBatch(
            ids_BL=self.ids_BL.to(device),
            positions_BL=None if self.positions_BL is None else self.positions_BL.to(device),
            mask_B1LL=None if self.mask_B1LL is None else self.mask_B1LL.to(device),
            trees_2L=None if self.trees_2L is None else self.trees_2L.to(device),
            source_n=self.source_n.to(device),
            target_n=self.target_n.to(device),
            token_n=self.token_n.to(device),
            work=self.work,
        )


@dataclass(frozen=True, slots=True)
class TokenTable:
    """The trained tokens of S sequences, flat."""

    lengths_S: Tensor
    """Trained tokens of each sequence, int64."""
    sequence_N: Tensor
    """The sequence of each token, int64."""
    lp_rollout_N: Tensor
    """float32."""
    advantage_N: Tensor
    """float32."""

    @property
    def offsets(self) -> list[int]:
        """[S + 1]: tokens of sequence s are `offsets[s]:offsets[s + 1]`."""
        return [0, *self.lengths_S.cumsum(0).tolist()]


def token_table(
    sequences: Sequence[TokenSequence], advantages_S: Tensor, advantage_N: Tensor | None = None
) -> TokenTable:
    """The flat arrays of `sequences` with one advantage each, or one for each token."""
    lengths_S = torch.tensor([sequence.num_trained for sequence in sequences], dtype=torch.int64)
    flat = [sequence.lp_rollout_T[sequence.trained_T] for sequence in sequences]
    return TokenTable(
        lengths_S=lengths_S,
        sequence_N=torch.arange(len(sequences)).repeat_interleave(lengths_S),
        lp_rollout_N=torch.from_numpy(np.concatenate(flat) if flat else np.zeros(0, np.float32)),
        advantage_N=(
            advantages_S.float().repeat_interleave(lengths_S)
            if advantage_N is None
            else advantage_N.float()
        ),
    )


@dataclass(frozen=True, slots=True)
class _Placed:
    """Rows laid into one flat array of P positions."""

    ids_P: np.ndarray
    positions_P: np.ndarray
    trees_2P: np.ndarray
    """Row and branch of each position: branch 0 is shared, row -1 is padding."""
    source: list[np.ndarray]
    target: list[np.ndarray]
    token: list[np.ndarray]


def _place(
    rows: Sequence[Row],
    sequences: Sequence[TokenSequence],
    offsets: Sequence[int],
    *,
    starts: Sequence[int],
    size: int,
) -> _Placed:
    """Lay every row out from its start."""
    trees_2P = np.zeros((2, size), dtype=np.int32)
    trees_2P[0] = -1
    made = _Placed(
        np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64), trees_2P, [], [], []
    )
    for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
        shared = row.num_shared
        made.ids_P[start : start + shared] = sequences[row.sequences[0]].tokens_T[:shared]
        made.positions_P[start : start + shared] = np.arange(shared)
        trees_2P[0, start : start + row.num_tokens] = number
        begin = start + shared
        for branch, s in enumerate(row.sequences, start=1):
            sequence = sequences[s]
            end = begin + len(sequence.tokens_T) - shared
            made.ids_P[begin:end] = sequence.tokens_T[shared:]
            made.positions_P[begin:end] = np.arange(shared, len(sequence.tokens_T))
            trees_2P[1, begin:end] = branch
            trained = np.flatnonzero(sequence.trained_T)
            before = trained - 1
            made.source.append(np.where(before < shared, start + before, before - shared + begin))
            made.target.append(sequence.tokens_T[trained].astype(np.int64))
            made.token.append(np.arange(offsets[s], offsets[s + 1]))
            begin = end
    return made


def _row_visibility(branch_L: Tensor) -> Tensor:
    """[L, L]: causal within a branch and from every branch to the shared tokens.

    Padding comes last and sees the shared tokens or, in a row of its own, itself: it is never
    blind, and nothing sees it.
    """
    same_LL = branch_L[:, None] == branch_L[None, :]
    return (same_LL | (branch_L == 0)[None, :]).tril()


def build_micro_batch(
    rows: Sequence[Row],
    sequences: Sequence[TokenSequence],
    offsets: Sequence[int],
    *,
    as_line: bool = False,
) -> MicroBatch:
    """Tensors of `rows`, which index `sequences`; `offsets` is `TokenTable.offsets`.

    As a line the rows lie end to end, B is 1, and L is a multiple of `BLOCK_TOKENS`.
    """
    width = max(row.num_tokens for row in rows)
    if as_line:
        *starts, total = accumulate((row.num_tokens for row in rows), initial=0)
        width = -(-total // BLOCK_TOKENS) * BLOCK_TOKENS
        shape = (1, width)
    else:
        starts = [b * width for b in range(len(rows))]
        shape = (len(rows), width)
    placed = _place(rows, sequences, offsets, starts=starts, size=shape[0] * width)
    is_plain = not as_line and all(len(row.sequences) == 1 for row in rows)
    mask_B1LL = None
    if not as_line and not is_plain:
        branch_BL = torch.from_numpy(placed.trees_2P[1]).reshape(shape)
        mask_B1LL = torch.stack([_row_visibility(branch_L) for branch_L in branch_BL])[:, None]
    return MicroBatch(
        ids_BL=torch.from_numpy(placed.ids_P).reshape(shape),
        positions_BL=None if is_plain else torch.from_numpy(placed.positions_P).reshape(shape),
        mask_B1LL=mask_B1LL,
        trees_2L=torch.from_numpy(placed.trees_2P) if as_line else None,
        source_n=torch.from_numpy(np.concatenate(placed.source)),
        target_n=torch.from_numpy(np.concatenate(placed.target)),
        token_n=torch.from_numpy(np.concatenate(placed.token)),
        work=_work(rows, sequences, num_padded=shape[0] * width),
    )


def _work(rows: Sequence[Row], sequences: Sequence[TokenSequence], *, num_padded: int) -> PassWork:
    return PassWork(
        num_tokens=sum(row.num_tokens for row in rows),
        num_padded=num_padded,
        num_pairs=sum(
            row.num_pairs([len(sequences[s].tokens_T) for s in row.sequences]) for row in rows
        ),
        num_trained=sum(sequences[s].num_trained for row in rows for s in row.sequences),
    )
