"""Sweeping: what is no longer kept goes, in bounded steps, on one replica at a time.

Called by `background` every minute, with a bound, and by `etude gc` until nothing is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..errors import IllegalTransition, RunNotFound
from ..ports.catalog import RunRow
from ..ports.retention import KINDS, Dropped, Keeper, Removed
from .steps import Ground

_LOG = logging.getLogger("etude.retention")
_BATCH = 2_000
"""Rows of one statement: some tens of milliseconds (our choice)."""
_STEPS = 10
"""Statements of one kind of one run in one turn of the background (our choice)."""
_PAGE = 100

Tell = Callable[[Dropped], None]


def _silent(_: Dropped) -> None:
    return


class Sweeper:
    """Drops what policies no longer keep, and what was deleted."""

    def __init__(self, ground: Ground, keeper: Keeper) -> None:
        self._ground = ground
        self._keeper = keeper

    async def turn(self) -> None:
        """One bounded turn of the background; nothing if another replica is at it."""
        async with self._keeper.only_one() as mine:
            if mine:
                for done in await self._sweep(await self._runs(None), steps=_STEPS, tell=_silent):
                    _LOG.info(
                        "retention.dropped",
                        extra={"run": done.run_id, "kind": done.kind, "rows": done.num_rows},
                    )

    async def sweep(self, run_id: str | None = None, *, tell: Tell = _silent) -> list[Dropped]:
        """Drop all that is due, of one run or of all; what went.

        Raises:
            IllegalTransition: another replica is sweeping.
            RunNotFound: no such run.
        """
        async with self._keeper.only_one() as mine:
            if not mine:
                raise IllegalTransition("another replica is sweeping; try again in a moment")
            runs = await self._runs(run_id)
            return await self._sweep(runs, steps=None, tell=tell, everything=run_id is None)

    async def due(self, run_id: str | None = None) -> list[Dropped]:
        """What `sweep` would drop by now, without dropping it; a deleted run counts as one."""
        found = []
        for run in await self._runs(run_id):
            for kind in KINDS:
                num = await self._keeper.count(run.id, kind, run.spec.limits.retention)
                found.append(Dropped(run.id, kind, num))
        if run_id is None:
            found.append(Dropped("", "answers", await self._keeper.count_answers()))
            found += [Dropped(run.id, "run", 1) for run in await self._keeper.removed_runs()]
        return [one for one in found if one.num_rows]

    async def _runs(self, run_id: str | None) -> list[RunRow]:
        catalog = self._ground.catalog
        if run_id is not None:
            return [await catalog.get_run(run_id)]
        runs: list[RunRow] = []
        while page := await catalog.list_runs(after=runs[-1].id if runs else None, limit=_PAGE):
            runs += page
        return runs

    async def _sweep(
        self, runs: Sequence[RunRow], *, steps: int | None, tell: Tell, everything: bool = True
    ) -> list[Dropped]:
        dropped: dict[tuple[str, str], int] = {}

        def add(run_id: str, kind: str, num: int) -> None:
            if num:
                at = (run_id, kind)
                dropped[at] = dropped.get(at, 0) + num
                tell(Dropped(run_id, kind, dropped[at]))

        for run in runs:
            for kind in KINDS:
                turn = 0
                while steps is None or turn < steps:
                    turn += 1
                    num = await self._keeper.drop(
                        run.id, kind, run.spec.limits.retention, limit=_BATCH
                    )
                    add(run.id, kind, num)
                    if num < _BATCH:
                        break
        if everything:
            add("", "answers", await self._keeper.drop_answers(limit=_BATCH))
            for gone in await self._keeper.removed_runs():
                await self._purge(gone.id, steps, add)
            while num := await self._keeper.purge_datasets(limit=_BATCH):
                add("", "tasks", num)
                if steps is not None:
                    break
        return [Dropped(run_id, kind, num) for (run_id, kind), num in dropped.items()]

    async def _purge(
        self, run_id: str, steps: int | None, add: Callable[[str, str, int], None]
    ) -> None:
        await self._ground.races.forget(run_id)
        turn = 0
        while steps is None or turn < steps:
            turn += 1
            num = await self._keeper.purge_run(run_id, limit=_BATCH)
            add(run_id, "run", num)
            if num == 0:
                return


class Removals:
    """Deleting runs and datasets."""

    def __init__(self, ground: Ground, keeper: Keeper) -> None:
        self._ground = ground
        self._keeper = keeper

    async def run(self, run_id: str, *, force: bool) -> Removed:
        """Delete a paused run; its name and its memory in Redis are free at once.

        Raises:
            RunNotFound: there never was such a run.
            IllegalTransition: it is not paused, or leases are live and `force` is not given.
        """
        ground = self._ground
        if not force and (num := await self._num_leases(run_id)):
            raise IllegalTransition(f"{num} leases are live; wait for their end, or force")
        removed = await self._keeper.remove_run(run_id)
        ground.contexts.forget(run_id)
        await ground.races.forget(run_id)
        return removed

    async def _num_leases(self, run_id: str) -> int:
        """Live leases of a run; 0 if it is gone."""
        ground = self._ground
        ground.contexts.forget(run_id)
        try:
            state = await ground.on_run(run_id, lambda c: ground.races.state(c.key))
        except RunNotFound:
            return 0
        return state.num_prompt_leases + state.num_training_leases

    async def dataset(self, dataset_id: str) -> Removed:
        """Delete a dataset.

        Raises:
            DatasetNotFound: no such dataset.
            IllegalTransition: runs use it.
        """
        return await self._keeper.remove_dataset(dataset_id)
