"""BFCL's means over categories, as its version 3 takes them. Pure.

Version 3 is what ToolRL's figures are of. Its runner: non-live is the mean of simple (itself the
mean of Python, Java and JavaScript), multiple, parallel, parallel_multiple and irrelevance; live is
the mean of its categories weighted by their rows, relevance and irrelevance among them; multi-turn
is the mean of its four; overall is the mean of the three. The installed package (data of version 4)
takes irrelevance out and adds agents' categories: its overall is another number. Used by `bfcl.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .bfcl_data import LIVE, MULTI_TURN, NON_LIVE
from .items import Group

_SIMPLE = ("simple_python", "simple_java", "simple_javascript")


def groups_of(sizes: Mapping[str, int]) -> Sequence[Group]:
    """The means whose categories are all in `sizes`, their numbers of rows."""
    non_live = {name: 1 / 15 if name in _SIMPLE else 1 / 5 for name in NON_LIVE}
    total = sum(sizes.get(name, 0) for name in LIVE)
    live = {name: sizes.get(name, 0) / total if total else 0.0 for name in LIVE}
    multi_turn = dict.fromkeys(MULTI_TURN, 1 / 4)
    single = _mean(non_live, live)
    candidates = [
        Group(
            "non_live",
            non_live,
            "mean of simple (mean of python, java, javascript), multiple, parallel, "
            "parallel_multiple, irrelevance",
        ),
        Group("live", live, "mean of the live categories, weighted by their rows"),
        Group("multi_turn", multi_turn, "mean of the four categories"),
        Group("single_turn", single, "mean of non_live and live (ours)"),
        Group("overall", _mean(non_live, live, multi_turn), "mean of non_live, live, multi_turn"),
    ]
    return [group for group in candidates if all(name in sizes for name in group.weights)]


def _mean(*parts: Mapping[str, float]) -> dict[str, float]:
    """Weights of the mean of weighted means over different domains."""
    return {name: weight / len(parts) for part in parts for name, weight in part.items()}
