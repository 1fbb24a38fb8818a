"""Rebuild: a run's hot state from PostgreSQL. Creating a run is rebuilding it from nothing.

The epoch is raised first, so everything that still holds the old one is fenced off; the new epoch
appears in Redis last, so hot paths answer 503 until all is loaded. Entry numbers start at
`epoch << 20`: no stay in a lane ever repeats a draw.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.leasing import arrival
from etude_sampler.statistics import Ints, TaskStatistics, empty

from ..ports.races import RunKey
from .context import RunContext, announced, make_context
from .draining import drain
from .entering import draws, lane_weights, pack_records
from .folding import put
from .steps import Ground

_CHUNK = 20_000
ENTRIES_PER_EPOCH = 1 << 20


class Rebuilder:
    """Rebuilds runs, one replica at a time."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def rebuild(self, run_id: str) -> bool:
        """Rebuild a run if no other replica does; whether it was done here."""
        async with self._ground.ledger.rebuild_lock(run_id) as held:
            if not held:
                return False
            await self._rebuild(run_id)
        return True

    async def ensure(self, run_id: str, *, wait: bool = False) -> bool:
        """Rebuild a run if Redis does not hold it at PostgreSQL's epoch; whether it was done.

        With `wait`, another replica's rebuild is waited for.
        """
        async with self._ground.ledger.rebuild_lock(run_id, wait=wait) as held:
            if not held:
                return False
            row = await self._ground.catalog.get_run(run_id)
            (marker,) = await self._ground.races.markers([run_id])
            if marker is not None and marker.epoch == row.epoch:
                return False
            await self._rebuild(run_id)
        return True

    async def _rebuild(self, run_id: str) -> None:
        ground = self._ground
        await ground.ledger.raise_epoch(run_id)
        context = make_context(await ground.catalog.get_run(run_id))
        await ground.races.seal(run_id)
        while await drain(ground, context):
            continue
        await ground.races.wipe(run_id)
        totals_L = np.zeros(len(context.lane_keys), dtype=np.int64)
        spec = context.row.spec
        async for chunk in ground.catalog.drawable(spec.dataset_id, spec.sources, chunk=_CHUNK):
            totals_L += await self._load(context, chunk)
        state = context.state()
        await ground.races.open(
            context.key,
            context.limits,
            announced(context.row, context.curriculum, state),
            shares=[float(s) for s in context.curriculum.allocator.shares(state)],
            totals=[int(total) for total in totals_L],
        )
        ground.contexts.forget(run_id)

    async def _load(self, context: RunContext, chunk: list[tuple[int, tuple[str, ...]]]) -> Ints:
        ordinals_N = np.array([ordinal for ordinal, _ in chunk], dtype=np.int64)
        stats = await self._statistics(context, ordinals_N)
        weights_NL = lane_weights(
            context,
            stats,
            context.active([subtasks for _, subtasks in chunk]),
            version=context.row.policy_version,
        )
        entries_N = np.full(len(chunk), context.row.epoch * ENTRIES_PER_EPOCH, dtype=np.int64)
        draws_NL = draws(context, ordinals_N, entries_N)
        arrivals = np.column_stack(
            [
                np.where(
                    weights_NL[:, lane] > 0,
                    arrival(0.0, draws_NL[:, lane], np.maximum(weights_NL[:, lane], 1)),
                    0.0,
                )
                for lane in range(weights_NL.shape[1])
            ]
        )
        key: RunKey = context.key
        packed = arrivals.astype("<f8").tobytes()
        width = arrivals.shape[1] * 8
        await self._ground.races.load(
            key,
            [int(ordinal) for ordinal in ordinals_N],
            pack_records(entries_N, weights_NL),
            [packed[i * width : (i + 1) * width] for i in range(len(chunk))],
        )
        totals: Ints = weights_NL.sum(axis=0)
        return totals

    async def _statistics(self, context: RunContext, ordinals_N: Ints) -> TaskStatistics:
        """Un-scaffolded statistics of a chunk of tasks; empty rows for those never seen."""
        num = len(ordinals_N)
        stats = empty(num, context.num_subtasks)
        found = await self._ground.ledger.bare_between(
            context.row.id, int(ordinals_N[0]), int(ordinals_N[-1]), context.num_subtasks
        )
        if not found.keys:
            return stats
        at = np.searchsorted(ordinals_N, [key.ordinal for key in found.keys])
        return put(stats, at, found.values)
