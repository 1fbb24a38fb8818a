"""Rebuild: a run's hot state from PostgreSQL. Creating a run is rebuilding it from nothing.

A loader seals the run in Redis, which fences off every other loader and takes the run out of
service; then PostgreSQL gives the epoch to load; the new epoch appears in Redis last, so hot paths
answer 503 until all is loaded, and only if all of it is there. Entry numbers start at
`epoch << 20`: no stay in a lane ever repeats a draw (ADR 0007).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass

from etude_proto.v1 import RebuildReason
from etude_sampler.curriculum import lane_shares

from ..errors import Rebuilding
from ..ports.catalog import DrawableTasks
from ..ports.ledger import BareStatistics
from ..ports.loading import Loader
from ..ports.marker import Marker
from .context import RunContext, announced, make_context
from .draining import drain
from .lane_loads import Tally, make_load
from .steps import Ground

_LOG = logging.getLogger("etude.rebuild")
_CHUNKS = (2_000, 50_000)
"""Fewest and most tasks of a chunk: large ones are cheaper, small ones show progress."""
_POLL_S = 0.1
_WAIT_S = 600.0
"""Longest wait for another replica's rebuild before the caller is sent away (our choice)."""
_SAY_EVERY_S = 2.0
_Chunk = tuple[DrawableTasks, BareStatistics]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found and did."""

    reason: RebuildReason
    epoch: int
    num_tasks: int
    num_tasks_seen: int
    """Tasks with statistics."""
    seconds: float
    statistics_digest: str


class Rebuilder:
    """Rebuilds runs, one replica at a time."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def rebuild(self, run_id: str) -> Rebuilt:
        """Rebuild a run, whatever Redis holds of it.

        Raises:
            Rebuilding: another replica has been at it for very long.
        """
        async with aclosing(self._turns(run_id)) as turns:
            async for held in turns:
                if held:
                    return await self._rebuild(run_id, RebuildReason.ASKED)
        raise Rebuilding(f"run {run_id} is being rebuilt elsewhere")

    async def ensure(self, run_id: str, *, wait: bool = False) -> Rebuilt | None:
        """Rebuild a run if Redis does not hold it as PostgreSQL knows it; None: not done here.

        With `wait`, another replica's rebuild is waited for.

        Raises:
            Rebuilding: another replica has been at it for very long.
        """
        async with aclosing(self._turns(run_id)) as turns:
            async for held in turns:
                reason = await self.fault(run_id) if held or wait else None
                if reason is None:
                    return None
                if held:
                    return await self._rebuild(run_id, reason)
        raise Rebuilding(f"run {run_id} is being rebuilt elsewhere")

    async def _turns(self, run_id: str) -> AsyncGenerator[bool, None]:
        """Try for the run's lock, again and again: whether it is held now."""
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            async with self._ground.ledger.rebuild_lock(run_id) as held:
                yield held
            await asyncio.sleep(_POLL_S)

    async def fault(self, run_id: str) -> RebuildReason | None:
        """What is wrong with a run's hot state; None: it is served."""
        ((_, wanted),) = await self._ground.catalog.run_markers(run_id)
        (found,) = await self._ground.races.markers([run_id])
        return fault(wanted, found)

    async def _rebuild(self, run_id: str, reason: RebuildReason) -> Rebuilt:
        ground, begun = self._ground, time.monotonic()
        row = await ground.catalog.get_run(run_id)
        loader = await ground.races.seal(run_id, num_tasks=row.num_tasks)
        while await drain(ground, make_context(row)):
            continue
        await ground.races.wipe(loader)
        epoch = await ground.ledger.loading_epoch(run_id)
        context = make_context(await ground.catalog.get_run(run_id))
        _LOG.warning(
            "run.rebuilding", extra={"run": run_id, "reason": reason, "epoch": context.row.epoch}
        )
        tally = await self._load(context, loader)
        rebuilt = Rebuilt(
            reason,
            epoch,
            tally.num_tasks,
            tally.num_seen,
            round(time.monotonic() - begun, 3),
            tally.digest,
        )
        if not await ground.ledger.loaded(run_id, epoch, asdict(rebuilt)):
            raise Rebuilding(f"run {run_id} moved on while it was loaded")
        state = context.state()
        await ground.races.open(
            context.key,
            loader,
            context.limits,
            announced=announced(context.row, context.curriculum, state),
            shares=[float(s) for s in lane_shares(context.curriculum, state)],
            totals=tally.totals_L.tolist(),
            sizes=tally.sizes_L.tolist(),
            num_tasks=tally.num_tasks,
        )
        ground.contexts.forget(run_id)
        _LOG.warning("run.rebuilt", extra={"run": run_id, **asdict(rebuilt)})
        return rebuilt

    async def _load(self, context: RunContext, loader: Loader) -> Tally:
        """Load all tasks; the next chunk is read while one is loaded."""
        tally, said = Tally(len(context.lane_keys)), time.monotonic()
        async with aclosing(self._chunks(context)) as chunks:
            coming = asyncio.ensure_future(anext(chunks, None))
            try:
                while (chunk := await coming) is not None:
                    coming = asyncio.ensure_future(anext(chunks, None))
                    load = await asyncio.to_thread(make_load, context, *chunk)
                    await self._ground.races.load(context.key, loader, load)
                    await asyncio.to_thread(tally.add, load, chunk[1])
                    if time.monotonic() - said > _SAY_EVERY_S:
                        said, share = time.monotonic(), tally.num_tasks / context.row.num_tasks
                        _LOG.info(
                            "run.loading",
                            extra={"run": context.row.id, "share": round(share, 3)},
                        )
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
        return tally

    async def _chunks(self, context: RunContext) -> AsyncGenerator[_Chunk, None]:
        """The run's tasks with their statistics: those that it was created with, no later ones."""
        ground, row = self._ground, context.row
        left = row.num_tasks
        chunk = min(max(_CHUNKS[0], left // 20), _CHUNKS[1])
        async for tasks in ground.catalog.drawable(
            row.spec.dataset_id,
            row.spec.sources,
            chunk=chunk,
            lanes_by=row.resolved.lanes_by,
            with_features=bool(row.resolved.features),
        ):
            if len(tasks.ordinals_N) > left:
                tasks = tasks.first(left)
            first, last = int(tasks.ordinals_N[0]), int(tasks.ordinals_N[-1])
            found = await ground.ledger.bare_between(row.id, first, last, context.shape)
            yield tasks, found
            left -= len(tasks.ordinals_N)
            if left == 0:
                return


def fault(wanted: Marker, found: Marker | None) -> RebuildReason | None:
    """What differs between PostgreSQL's marker of a run and Redis'; None: nothing that matters."""
    if found is None:
        return RebuildReason.MISSING if wanted.epoch else RebuildReason.CREATED
    if found.epoch != wanted.epoch:
        return RebuildReason.EPOCH
    if found.decision < wanted.decision:
        return RebuildReason.REWOUND
    return None
