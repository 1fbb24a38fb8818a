"""Demonstrations for hard tasks: what may be one, and which ones a task gets (algorithms.md 4.2).

Everything here is our choice. Pure functions of texts and numbers; the service keeps the pool and
asks. `usable` says what may stand in a pool, `relevance` scores it, `choosing` picks.
"""

from __future__ import annotations

from .choosing import Pool, Query, mmr
from .relevance import BM25, jaccard, tokens
from .usable import Entry, GoldKind, gold_kind, is_usable

__all__ = [
    "BM25",
    "Entry",
    "GoldKind",
    "Pool",
    "Query",
    "gold_kind",
    "is_usable",
    "jaccard",
    "mmr",
    "tokens",
]
