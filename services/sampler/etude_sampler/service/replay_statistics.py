"""The statistics that the ledger gives beside those that are stored, as digests. For `replay`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import TaskStatistics, empty

from ..ports.ledger import StatisticsRows
from .folding import join
from .replay_ledger import LedgerWalk


@dataclass(frozen=True, slots=True)
class Compared:
    """Digests over the same keys in the same order; equal digests are equal bits."""

    digest: str
    stored_digest: str
    first: str | None
    """The first key that differs; None if all are equal."""


def _packed(keys: str, stats: TaskStatistics) -> bytes:
    columns = (getattr(stats, name) for name in TaskStatistics.__slots__)
    return keys.encode() + b"".join(np.ascontiguousarray(column).tobytes() for column in columns)


async def compare(walk: LedgerWalk, stored: AsyncIterator[StatisticsRows]) -> Compared:
    """Compare a finished walk with the stored rows, page by page."""
    ours, theirs = hashlib.sha256(), hashlib.sha256()
    unseen = walk.keys()
    first: str | None = None
    num_rows = len(walk.stats.n_N)
    nothing = empty(1, walk.context.num_subtasks, walk.context.shape.fresh)
    async for page in stored:
        at = np.array([unseen.pop(key, num_rows) for key in page.keys], dtype=np.int64)
        known = bool(np.all(at < num_rows))
        mine = (walk.stats if known else join(walk.stats, nothing)).select(at)
        named = repr([tuple(key) for key in page.keys])
        packed = _packed(named, mine), _packed(named, page.values)
        ours.update(packed[0])
        theirs.update(packed[1])
        if first is None and packed[0] != packed[1]:
            first = _first(page, mine)
    for key in sorted(unseen):
        ours.update(repr(tuple(key)).encode())
        first = first or f"task {key.ordinal} ({key.kind}, {key.level}) has no stored statistics"
    return Compared(ours.hexdigest(), theirs.hexdigest(), first)


def _first(page: StatisticsRows, mine: TaskStatistics) -> str:
    """The first key of a page whose rows differ, with the column."""
    for row, key in enumerate(page.keys):
        one = np.array([row])
        for name in TaskStatistics.__slots__:
            found, want = getattr(page.values.select(one), name), getattr(mine.select(one), name)
            if found.tobytes() != want.tobytes():
                return (
                    f"task {key.ordinal} ({key.kind}, {key.level}): {name} is "
                    f"{found.ravel().tolist()}, the ledger gives {want.ravel().tolist()}"
                )
    return "the order of the keys"
