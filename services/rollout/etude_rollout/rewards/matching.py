"""Pairing gold calls with predicted calls: ToolRL's greedy rule and the best assignment.

Used by ``parts.py``. The greedy rule is ToolRL's (algorithms.md 2.2), the assignment belongs to
mode ``robust`` (2.6, our choice).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from .gold_calls import GoldCall, Pair

_VALUE_BONUS = 1e-9
"""Among assignments of equal sum, prefer right values over right keys; far below any credit."""


def name_similarity(gold: Sequence[str], given: Sequence[object], *, ordered: bool) -> float:
    """J of algorithms.md 2.2 over multisets of names; list equality if ordered.

    Raises TypeError for a given name that cannot be hashed, if it has to be compared.
    """
    if list(gold) == list(given):
        return 1.0
    if ordered or not gold or not given:
        return 0.0
    num_common = (Counter[object](gold) & Counter(given)).total()
    return num_common / (len(gold) + len(given) - num_common)


def best_pairs(
    gold: Sequence[GoldCall], given: Sequence[dict[str, object]], *, ordered: bool
) -> list[Pair]:
    """The pairs of the one-to-one assignment, within equal names, with the largest sum of x.

    x is the key similarity plus the credit for values; ties go to more credit for values. Every
    given call has a string name and an object of parameters.
    """
    gold_by_name: defaultdict[str, list[GoldCall]] = defaultdict(list)
    for call in gold:
        gold_by_name[call.name].append(call)
    given_by_name: defaultdict[object, list[dict[str, object]]] = defaultdict(list)
    for predicted in given:
        parameters = predicted["parameters"]
        assert isinstance(parameters, dict)
        given_by_name[predicted["name"]].append(parameters)
    pairs: list[Pair] = []
    for name, calls in gold_by_name.items():
        candidates = given_by_name.get(name)
        if not candidates:
            continue
        table = [[call.pair(each, ordered=ordered) for each in candidates] for call in calls]
        gains = [[p.keys + p.values + _VALUE_BONUS * p.values for p in row] for row in table]
        chosen = best_assignment(gains)
        pairs += [row[at] for row, at in zip(table, chosen, strict=True) if at is not None]
    return pairs


def best_assignment(gains: Sequence[Sequence[float]]) -> list[int | None]:
    """For each row a column of its own so that the sum of gains is largest.

    ``gains`` is a non-empty rectangle of numbers >= 0. With more rows than columns some rows get
    None. Shortest augmenting paths with potentials, O(rows^2 columns).
    """
    if len(gains) <= len(gains[0]):
        return list(_column_of_each_row(gains))
    chosen: list[int | None] = [None] * len(gains)
    turned = [list(column) for column in zip(*gains, strict=True)]
    for column, row in enumerate(_column_of_each_row(turned)):
        chosen[row] = column
    return chosen


def _column_of_each_row(gains: Sequence[Sequence[float]]) -> list[int]:
    """:func:`best_assignment` for at most as many rows as columns."""
    num_rows, num_columns = len(gains), len(gains[0])
    if num_rows == 1:
        row_gains = list(gains[0])
        return [row_gains.index(max(row_gains))]
    # Index num_columns is the column from which a new row starts its search.
    owner: list[int | None] = [None] * (num_columns + 1)
    row_potential = [0.0] * num_rows
    column_potential = [0.0] * (num_columns + 1)
    for new_row in range(num_rows):
        owner[num_columns] = new_row
        _augment(gains, owner, row_potential, column_potential)
    column_of = {row: column for column, row in enumerate(owner[:num_columns])}
    return [column_of[row] for row in range(num_rows)]


def _augment(
    gains: Sequence[Sequence[float]],
    owner: list[int | None],
    row_potential: list[float],
    column_potential: list[float],
) -> None:
    """Find the cheapest path from the starting column to a free one and shift owners along it."""
    start = len(owner) - 1
    distance = [float("inf")] * start
    came_from = [start] * start
    visited = [start]
    open_columns = list(range(start))
    column = start
    while (row := owner[column]) is not None:
        for other in open_columns:
            cost = -gains[row][other] - row_potential[row] - column_potential[other]
            if cost < distance[other]:
                distance[other], came_from[other] = cost, column
        nearest = min(open_columns, key=distance.__getitem__)
        step = distance[nearest]
        for seen in visited:
            seen_row = owner[seen]
            assert seen_row is not None
            row_potential[seen_row] += step
            column_potential[seen] -= step
        for other in open_columns:
            distance[other] -= step
        visited.append(nearest)
        open_columns.remove(nearest)
        column = nearest
    path = [column]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    for into, out_of in pairwise(path):
        owner[into] = owner[out_of]
