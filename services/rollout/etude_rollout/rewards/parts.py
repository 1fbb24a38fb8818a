"""The parts of correctness: how much of the gold calls a completion's calls got right.

``parity_parts`` follows ToolRL's released reward to the letter, ``robust_parts`` works on calls
already known to be well formed. ``scoring.py`` turns parts into components and reward. Sources:
algorithms.md 2.2, 2.3 and 2.5 (ToolRL), 2.6 (``robust``, our choice), 3.1 (components).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .gold_calls import GoldCall, Pair
from .matching import best_pairs, name_similarity


class Parts(NamedTuple):
    """Credit over all gold calls; the largest possible is (1, n, K)."""

    names: float
    """r_name: similarity of the lists of names, in [0, 1]."""
    keys: float
    """r_param: sum over gold calls of the similarity of parameter names, in [0, n]."""
    values: float
    """r_value: credit for right values, in [0, K]."""


def full_parts(gold: Sequence[GoldCall]) -> Parts:
    """The largest possible parts."""
    return Parts(1.0, float(len(gold)), float(sum(call.num_params for call in gold)))


def equal_lists(gold: Sequence[GoldCall], given: Sequence[object]) -> bool:
    """Whether the predicted calls equal the gold calls, in order."""
    return len(gold) == len(given) and all(
        call.equals(predicted) for call, predicted in zip(gold, given, strict=True)
    )


def parity_parts(
    gold: Sequence[GoldCall], given: Sequence[object], *, ordered: bool
) -> Parts | None:
    """ToolRL's parts; None where its code would have failed on a predicted call.

    Each gold call in order takes the first of the unused calls of its name with the largest
    positive x. Only calls so examined need an object ``parameters``; every call needs a ``name``.
    """
    names = parity_names(given)
    if names is None:
        return None
    try:
        similarity = name_similarity([call.name for call in gold], names, ordered=ordered)
    except TypeError:
        return None
    keys = values = 0.0
    unused = list(range(len(given)))
    for call in gold:
        best, best_at = Pair(0.0, 0.0), -1
        for at in unused:
            if names[at] != call.name:
                continue
            parameters = _parameters(given[at])
            if parameters is None:
                return None
            pair = call.pair(parameters, ordered=ordered)
            if pair.keys + pair.values > best.keys + best.values:
                best, best_at = pair, at
        if best_at >= 0:
            unused.remove(best_at)
        keys += best.keys
        values += best.values
    return Parts(similarity, keys, values)


def robust_parts(
    gold: Sequence[GoldCall], given: Sequence[dict[str, object]], *, ordered: bool
) -> Parts:
    """Parts under the best assignment of well-formed calls."""
    names = name_similarity(
        [call.name for call in gold], [call["name"] for call in given], ordered=ordered
    )
    pairs = best_pairs(gold, given, ordered=ordered)
    return Parts(names, sum(pair.keys for pair in pairs), sum(pair.values for pair in pairs))


def whole_share(
    gold: Sequence[GoldCall], given: Sequence[object], *, ordered: bool
) -> float | None:
    """Share of credit where a gold call counts only if matched whole (INTERMEDIATEREWARD).

    (r_name + whole matches) / (1 + n); None where ToolRL's code would have failed.
    """
    names = parity_names(given)
    if names is None:
        return None
    try:
        similarity = name_similarity([call.name for call in gold], names, ordered=ordered)
    except TypeError:
        return None
    unused = list(range(len(given)))
    num_whole = 0
    for call in gold:
        for at in unused:
            if names[at] == call.name and call.equals(given[at]):
                unused.remove(at)
                num_whole += 1
                break
    return (similarity + num_whole) / (1 + len(gold))


def parity_names(given: Sequence[object]) -> list[object] | None:
    """The names of the predicted calls, whatever their type; None if one has no name."""
    names: list[object] = []
    for call in given:
        if not isinstance(call, dict) or "name" not in call:
            return None
        names.append(call["name"])
    return names


def _parameters(call: object) -> dict[str, object] | None:
    parameters = call.get("parameters") if isinstance(call, dict) else None
    return parameters if isinstance(parameters, dict) else None
