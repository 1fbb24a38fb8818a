"""How much one text has to do with another: BM25 and token Jaccard (algorithms.md 4.2).

Okapi BM25 with k1 1.5 and b .75, with the logarithm that never falls below 0. Our own few lines:
a pool has at most some thousand short texts. Used by `choosing`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from etude_sampler.statistics import Floats

K1, B = 1.5, 0.75
_WORD = re.compile(r"\w+")


def tokens(text: str) -> list[str]:
    """Words, lower case; letters, digits and underscores make one."""
    return _WORD.findall(text.lower())


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared words over all words; two empty texts are the same."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


class BM25:
    """Texts that queries are scored against."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        """The texts as tokens."""
        self._num = len(texts)
        lengths_D = np.array([len(text) for text in texts], dtype=np.float64)
        mean = math.fsum(lengths_D.tolist()) / max(1, self._num)
        self._norm_D = K1 * (1.0 - B + B * lengths_D / max(1.0, mean))
        found: dict[str, list[tuple[int, int]]] = {}
        for place, text in enumerate(texts):
            for word, count in Counter(text).items():
                found.setdefault(word, []).append((place, count))
        self._found = found

    def scores(self, query: Sequence[str]) -> Floats:
        """[D] `sum over words of idf tf (k1 + 1) / (tf + k1 (1 - b + b length / mean))`.

        `idf = ln(1 + (D - n + .5) / (n + .5))` for a word that n of the D texts have; a word said
        twice counts twice.
        """
        scores_D = np.zeros(self._num)
        for word in query:
            held = self._found.get(word, [])
            idf = math.log(1.0 + (self._num - len(held) + 0.5) / (len(held) + 0.5))
            for place, count in held:
                scores_D[place] += idf * count * (K1 + 1.0) / (count + self._norm_D[place])
        return scores_D
