"""Where tokens go: sequences to rows, rows to micro-batches, within a token budget.

A row is a prompt followed by one or several of its continuations ("branches"): the branches see
the prompt and themselves, not one another, and count their positions from the prompt's end. With
one branch a row is an ordinary sequence. Sharing pays because a group's rollouts have their
prompt in common; it stops paying where the longer row costs more attention than the prompt saves.

Pure functions of lengths and token ids (numpy); `batching.py` makes the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .batch import TokenSequence

MAX_SHARED_ROW_TOKENS: Final = 8192
"""A row with several branches needs a mask of its length squared: no longer than this."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt of `num_shared` tokens and the sequences that branch from it."""

    sequences: tuple[int, ...]
    """Indices of the sequences."""
    num_shared: int
    """Leading tokens that all of them have in common, none of them trained."""
    num_tokens: int
    """Length of the row: shared tokens once, then every branch."""

    def num_pairs(self, lengths: Sequence[int]) -> int:
        """Positions that look at another, themselves included.

        Args:
            lengths: tokens of each of the row's sequences, the shared ones included.
        """
        shared = self.num_shared
        own = [length - shared for length in lengths]
        pairs = shared * (shared + 1) // 2
        return pairs + sum(shared * size + size * (size + 1) // 2 for size in own)


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits and costs of rows."""

    max_tokens: int
    """Most tokens of a micro-batch, padding included."""
    share_prompts: bool
    pair_cost: float
    """Cost of one attended pair of positions over the cost of one token elsewhere in the model."""
    uses_lines: bool = False
    """Lay a micro-batch's rows end to end in one line, where the device skips the pairs between
    them (`attention.py`), instead of padding them to one length."""


def shared_prefix(sequences: Sequence[TokenSequence]) -> int:
    """Leading tokens that all sequences have in common, before any is trained."""
    limit = min(sequence.first_trained for sequence in sequences)
    first = sequences[0].tokens_T[:limit]
    for other in sequences[1:]:
        differs = np.flatnonzero(first != other.tokens_T[: len(first)])
        if len(differs):
            first = first[: int(differs[0])]
    return len(first)


def _solitary(index: int, sequence: TokenSequence) -> Row:
    return Row((index,), num_shared=0, num_tokens=len(sequence.tokens_T))


def plan_group(members: Sequence[tuple[int, TokenSequence]], budget: Budget) -> list[Row]:
    """Rows of one group's sequences, given with their indices.

    Greedy: a sequence joins the current row while that is cheaper than a row of its own. A pair
    costs half in an ordinary row, because causal attention skips the upper triangle.
    """
    sequences = [sequence for _, sequence in members]
    num_shared = shared_prefix(sequences) if budget.share_prompts and len(members) > 1 else 0
    if num_shared == 0:
        return [_solitary(index, sequence) for index, sequence in members]
    limit = budget.max_tokens
    if not budget.uses_lines:
        limit = min(limit, MAX_SHARED_ROW_TOKENS)
    rows: list[Row] = []
    joined: list[int] = []
    length = 0
    for index, sequence in members:
        alone = len(sequence.tokens_T)
        branch = alone - num_shared
        cost_alone = alone + 0.5 * budget.pair_cost * alone**2
        cost_joined = branch + budget.pair_cost * _more_pairs(
            num_shared, length, branch, budget=budget
        )
        if joined and (length + branch > limit or cost_joined >= cost_alone):
            rows.append(Row(tuple(joined), num_shared, length))
            joined = []
        if not joined:
            length = num_shared
        joined.append(index)
        length += branch
    rows.append(Row(tuple(joined), num_shared, length))
    return rows


def _more_pairs(shared: int, length: int, branch: int, *, budget: Budget) -> float:
    """Pairs that a branch adds to a row: in a dense mask all of them, in a line those it sees."""
    if budget.uses_lines:
        return shared * branch + 0.5 * branch**2
    return float((length + branch) ** 2 - length**2)


def pack_rows(rows: Sequence[Row], budget: Budget) -> list[list[Row]]:
    """Micro-batches: rows of similar length, longest first, at most `max_tokens` with padding.

    A row that alone exceeds the budget gets a micro-batch of its own. In lines there is no padding,
    and a row goes into the first line with room (first fit decreasing).
    """
    ordered = sorted(rows, key=lambda row: (-row.num_tokens, row.sequences))
    if budget.uses_lines:
        return _fill_lines(ordered, budget.max_tokens)
    batches: list[list[Row]] = []
    for row in ordered:
        if batches and (len(batches[-1]) + 1) * batches[-1][0].num_tokens <= budget.max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _fill_lines(ordered: Sequence[Row], max_tokens: int) -> list[list[Row]]:
    lines: list[list[Row]] = []
    room: list[int] = []
    for row in ordered:
        place = next((n for n, left in enumerate(room) if left >= row.num_tokens), len(lines))
        if place == len(lines):
            lines.append([])
            room.append(max_tokens)
        lines[place].append(row)
        room[place] -= row.num_tokens
    return lines
