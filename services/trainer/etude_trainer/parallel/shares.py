"""Shares: the rows of an update dealt to the ranks, so that they have equal work and equal passes.

Pure functions of lengths. Every rank computes every rank's share and so knows, without asking,
how many passes the longest share takes: a sharded forward pass is a collective call, and who has
fewer passes fills up with idle ones. `stages/learn.py` deals, `model.py` computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..layout import Budget, Row, pack_rows


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of an update."""

    micro_batches: list[list[Row]]
    num_idle: int
    """Passes without a token, after the others, until every rank has had as many."""


def row_cost(row: Row, budget: Budget) -> float:
    """Work of a row in units of one token: its tokens, and the pairs of positions that attend.

    A pair counts half in an ordinary row, as in `layout.plan_group`.
    """
    pairs = row.num_tokens**2 * (0.5 if len(row.sequences) == 1 else 1.0)
    return row.num_tokens + budget.pair_cost * pairs


def deal(rows: Sequence[Row], budget: Budget, *, num_ranks: int) -> list[list[Row]]:
    """Rows of every rank: the most costly first, each to the rank with the least so far.

    The loads differ by at most one row's cost (list scheduling, longest first; Graham, 1969).
    """
    loads = [0.0] * num_ranks
    dealt: list[list[Row]] = [[] for _ in range(num_ranks)]
    for row in sorted(rows, key=lambda row: (-row_cost(row, budget), row.sequences)):
        rank = loads.index(min(loads))
        dealt[rank].append(row)
        loads[rank] += row_cost(row, budget)
    return dealt


def share_of(rows: Sequence[Row], budget: Budget, *, rank: int, num_ranks: int) -> Share:
    """What `rank` computes of an update; one rank alone computes all of it, as it is packed."""
    if num_ranks == 1:
        return Share(pack_rows(rows, budget), 0)
    packed = [pack_rows(own, budget) for own in deal(rows, budget, num_ranks=num_ranks)]
    longest = max(len(batches) for batches in packed)
    return Share(packed[rank], longest - len(packed[rank]))
