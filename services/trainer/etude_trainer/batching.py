"""Tensors of a step: the flat arrays of its trained tokens, and micro-batches that index them.

The trained tokens of all S sequences are numbered 0..N-1, sequence by sequence. Everything that is
known of a token (advantage, engine's and old log-probability, weight) is one array [N]; a
micro-batch carries the numbers of its tokens. Built by `stages/learn.py` from `layout.py`'s plan,
run by `model.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .batch import TokenSequence
from .layout import Row
from .throughput import PassWork


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass: B rows padded on the right to L tokens, n trained tokens."""

    ids_BL: Tensor
    positions_BL: Tensor | None
    """None where every row is an ordinary sequence."""
    mask_B1LL: Tensor | None
    """True where a position (third axis) may look at another (fourth); None for plain causal
    attention, to which right padding is invisible."""
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


def _row_visibility(row: Row, branch_lengths: Sequence[int], width: int) -> Tensor:
    """[L, L]: causal within a branch and from every branch to the shared tokens.

    Padding belongs to the last branch, after all of its tokens, so that no position is blind.
    """
    owner = np.full(width, len(branch_lengths), dtype=np.int64)
    owner[: row.num_shared] = 0
    begin = row.num_shared
    for number, length in enumerate(branch_lengths, start=1):
        owner[begin : begin + length] = number
        begin += length
    owner_L = torch.from_numpy(owner)
    same_LL = owner_L[:, None] == owner_L[None, :]
    return (same_LL | (owner_L == 0)[None, :]).tril()


def build_micro_batch(
    rows: Sequence[Row], sequences: Sequence[TokenSequence], offsets: Sequence[int]
) -> MicroBatch:
    """Tensors of `rows`, which index `sequences`; `offsets` is `TokenTable.offsets`."""
    width = max(row.num_tokens for row in rows)
    is_plain = all(len(row.sequences) == 1 for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    visible: list[Tensor] = []
    source: list[np.ndarray] = []
    target: list[np.ndarray] = []
    token: list[np.ndarray] = []
    for b, row in enumerate(rows):
        shared = row.num_shared
        begin = shared
        lengths: list[int] = []
        for s in row.sequences:
            sequence = sequences[s]
            end = begin + len(sequence.tokens_T) - shared
            ids[b, begin:end] = sequence.tokens_T[shared:]
            positions[b, begin:end] = np.arange(shared, len(sequence.tokens_T))
            trained = np.flatnonzero(sequence.trained_T)
            before = trained - 1
            source.append(b * width + np.where(before < shared, before, before - shared + begin))
            target.append(sequence.tokens_T[trained].astype(np.int64))
            token.append(np.arange(offsets[s], offsets[s + 1]))
            lengths.append(end - begin)
            begin = end
        ids[b, :shared] = sequences[row.sequences[0]].tokens_T[:shared]
        positions[b, :shared] = np.arange(shared)
        if not is_plain:
            visible.append(_row_visibility(row, lengths, width))
    return MicroBatch(
        ids_BL=torch.from_numpy(ids),
        positions_BL=None if is_plain else torch.from_numpy(positions),
        mask_B1LL=None if is_plain else torch.stack(visible)[:, None],
        source_n=torch.from_numpy(np.concatenate(source)),
        target_n=torch.from_numpy(np.concatenate(target)),
        token_n=torch.from_numpy(np.concatenate(token)),
        work=_work(rows, sequences, width=width),
    )


def _work(rows: Sequence[Row], sequences: Sequence[TokenSequence], *, width: int) -> PassWork:
    return PassWork(
        num_tokens=sum(row.num_tokens for row in rows),
        num_padded=len(rows) * width,
        num_pairs=sum(
            row.num_pairs([len(sequences[s].tokens_T) for s in row.sequences]) for row in rows
        ),
        num_trained=sum(sequences[s].num_trained for row in rows for s in row.sequences),
    )
