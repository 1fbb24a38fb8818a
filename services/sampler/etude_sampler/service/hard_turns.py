"""What the end of a round of hard sampling does to tasks that nobody serves: they change lanes.

Done when a version is announced, and by the background for versions that a replica died over.
Tasks in a lease are left alone: their way back brings their new weights. Called by `versions`.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.statistics import Ints

from .context import RunContext
from .entering import enter, unpack_records
from .hard_states import hard_at
from .steps import Ground
from .weighing import weights_now

_CHUNK = 500
_ADDED = 2
"""Lanes of hard sampling, after the others."""


async def turn(ground: Ground, run_id: str, *, first: int, version: int) -> int:
    """Move the tasks whose lanes a round's end has changed; the number moved.

    Args:
        ground: ports and caches.
        run_id: the run.
        first: the first version that may have been missed.
        version: the version that is announced.
    """
    context = await ground.contexts.get(run_id)
    if context.curriculum.hard is None:
        return 0
    context = await ground.contexts.refresh(run_id)
    hard = hard_at(context.curriculum, context.state())
    assert hard is not None
    if not first <= hard.now.turned_at <= version:
        return 0
    moved = 0
    ordinals = list(await ground.ledger.live_tasks(run_id, hard.live_column))
    for begin in range(0, len(ordinals), _CHUNK):
        moved += await _move(ground, context, ordinals[begin : begin + _CHUNK], version)
    return moved


async def _move(ground: Ground, context: RunContext, ordinals: list[int], version: int) -> int:
    records = await ground.races.entries(context.key, ordinals)
    pairs = [(o, r) for o, r in zip(ordinals, records, strict=True) if r is not None]
    if not pairs:
        return 0
    known = [ordinal for ordinal, _ in pairs]
    entries_N, before_NL = unpack_records([record for _, record in pairs])
    after_NL = await weights_now(ground, context, known, version=version)
    rows = np.flatnonzero(_elsewhere(before_NL, after_NL))
    if not len(rows):
        return 0
    entries = (entries_N[rows] + 1).tolist()
    items = enter(context, [known[row] for row in rows.tolist()], entries, after_NL[rows])
    return await ground.races.move(context.key, items)


def _elsewhere(before_NL: Ints, after_NL: Ints) -> np.ndarray:
    """[N] whether a task stands in other lanes than it should, or asks for other help there."""
    lanes_N = np.any((before_NL > 0) != (after_NL > 0), axis=1)
    help_N = np.any(before_NL[:, -_ADDED:] != after_NL[:, -_ADDED:], axis=1)
    return np.asarray(lanes_N | help_N)
