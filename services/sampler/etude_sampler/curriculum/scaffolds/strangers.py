"""Random documents of other tasks (section 6, our choice of how). Used by the service.

Which tasks they come from is a function of the entry's uniform numbers alone, so a repeated call
shows the same ones. Neighbour: `noise_docs` puts them into the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etude_sampler.statistics import Floats, Ints

TRIES = 4
"""Candidates per wanted document: some are the task's own, or come up twice."""


def num_draws(wanted: int) -> int:
    """Uniform numbers that `candidates` and `strangers` read."""
    return 2 * TRIES * wanted


def candidates(pool_N: Ints, numbers: Floats) -> list[int]:
    """Ordinals of tasks to look for documents in, one for every two numbers."""
    num = len(pool_N)
    return [int(pool_N[_place(u, num)]) for u in numbers[0::2].tolist()] if num else []


def strangers(
    tasks: Sequence[int],
    documents: Mapping[int, Sequence[str]],
    *,
    own: Sequence[str],
    numbers: Floats,
    wanted: int,
) -> list[str]:
    """At most `wanted` different documents of the candidate tasks, none of them the task's own."""
    found: list[str] = []
    for task, u in zip(tasks, numbers[1::2].tolist(), strict=True):
        texts = documents[task]
        text = texts[_place(u, len(texts))]
        if len(found) < wanted and text not in own and text not in found:
            found.append(text)
    return found


def _place(u: float, num: int) -> int:
    """Index in [0, num) of a number in (0, 1]."""
    return min(int(u * num), num - 1)
