"""Which demonstrations a task gets: same kind of gold, relevant, unlike each other (section 4.2).

A pool is made once a policy version and asked for every hard task of a batch. Neighbours:
`relevance` scores, `usable` says what may stand in a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etude_sampler.statistics import Floats

from .relevance import BM25, jaccard
from .usable import Entry, GoldKind, is_usable, thought_of


@dataclass(frozen=True, slots=True)
class Query:
    """The task that demonstrations are wanted for."""

    ordinal: int
    prompt: str
    words: tuple[str, ...]
    kind: GoldKind


class Pool:
    """Entries to choose from; one a task, the shortest thought first."""

    def __init__(self, entries: Sequence[Entry], *, lam: float) -> None:
        """Of these the usable ones; `lam` weighs relevance against sameness."""
        best: dict[int, Entry] = {}
        for entry in entries:
            if not is_usable(entry.answer):
                continue
            known = best.get(entry.ordinal)
            if known is None or _length(entry) < _length(known):
                best[entry.ordinal] = entry
        self._entries = [best[ordinal] for ordinal in sorted(best)]
        self._bm25 = BM25([entry.words for entry in self._entries])
        self._sets = [frozenset(entry.words) for entry in self._entries]
        self._lam = lam

    def __len__(self) -> int:
        """Tasks with an answer."""
        return len(self._entries)

    def choose(self, query: Query, num: int) -> list[Entry]:
        """At most `num` entries, best first: those of the same kind, then, if too few, others."""
        scores_D = self._bm25.scores(query.words)
        own = [
            place
            for place, entry in enumerate(self._entries)
            if entry.ordinal != query.ordinal and entry.prompt != query.prompt
        ]
        top = max((float(scores_D[place]) for place in own), default=0.0)
        relevance_D = scores_D / top if top > 0.0 else scores_D
        same = [place for place in own if self._entries[place].kind is query.kind]
        taken = self._mmr(relevance_D, same, [], num)
        if len(taken) < num:
            taken = self._mmr(relevance_D, [p for p in own if p not in same], taken, num)
        return [self._entries[place] for place in taken]

    def _mmr(
        self, relevance_D: Floats, places: Sequence[int], taken: list[int], num: int
    ) -> list[int]:
        def alike(first: int, second: int) -> float:
            return jaccard(self._sets[first], self._sets[second])

        return mmr(relevance_D, places, alike, lam=self._lam, num=num, taken=taken)


def mmr(
    relevance_D: Floats,
    places: Sequence[int],
    alike: Callable[[int, int], float],
    *,
    lam: float,
    num: int,
    taken: Sequence[int] = (),
) -> list[int]:
    """Maximal marginal relevance: add `argmax lam rel(d) - (1 - lam) max alike(d, taken)`.

    Args:
        relevance_D: relevance of every entry, at most 1.
        places: entries that may be taken.
        alike: sameness of two entries, in [0, 1].
        lam: weight of relevance, in [0, 1].
        num: how many are wanted in all.
        taken: what was taken before.

    Returns:
        `taken` and what was added, in the order taken; ties go to the first of `places`.
    """
    chosen, left = list(taken), list(places)
    while left and len(chosen) < num:
        worth = [
            lam * float(relevance_D[place])
            - (1.0 - lam) * max((alike(place, other) for other in chosen), default=0.0)
            for place in left
        ]
        chosen.append(left.pop(worth.index(max(worth))))
    return chosen


def _length(entry: Entry) -> int:
    return len(thought_of(entry.answer) or "")
