"""What goes with drawn tasks besides themselves: the run's scaffold, encoded for the batch.

Gathers what a scaffold may know (aids, the level of the last success, chance, other tasks'
documents) and leaves the rest to `curriculum.scaffolds`. Chance is a function of seed, task and
entry: a repeated call gives the same help. Called by `prompts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import orjson
from pydantic import TypeAdapter

from etude_proto.v1 import Aids, Message
from etude_sampler.curriculum.scaffolding import Scaffolding, Served, Situation
from etude_sampler.curriculum.scaffolds.strangers import candidates, num_draws, strangers
from etude_sampler.leasing import lane_key, uniforms
from etude_sampler.statistics import Floats, Ints

from ..ports.catalog import TaskRow
from ..ports.races import Drawn, PromptLease
from .context import RunContext
from .steps import Ground

BARE = b'"scaffold":{"kind":"none","level":0}'
"""Help of an un-scaffolded item, without the braces."""
_CHANCE = lane_key("scaffold")
_MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Message])
_NO_AIDS = Aids()
_MAX_POOLS = 64
"""Runs whose document tasks are remembered in this process."""


class Helper:
    """Serves the run's scaffold."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._pools: dict[str, Ints] = {}

    async def help(
        self,
        context: RunContext,
        lease: PromptLease,
        rows: Sequence[TaskRow],
        num_rollouts: Sequence[int],
    ) -> list[bytes]:
        """Help of each drawn task, as the fields of its item, without the braces."""
        scaffold = context.curriculum.scaffold
        if scaffold is None:
            return [BARE] * len(rows)
        aids = [Aids.model_validate_json(row.aids) if row.aids else _NO_AIDS for row in rows]
        last = await self._last_successes(context, scaffold, rows)
        numbers = [
            _numbers(context, one, scaffold, known)
            for one, known in zip(lease.drawn, aids, strict=True)
        ]
        others = await self._strangers(context, scaffold, aids=aids, numbers=numbers)
        return [
            _encoded(
                scaffold.serve(
                    Situation(
                        messages=_messages(row) if others[i] else (),
                        aids=aids[i],
                        version=lease.announced.version,
                        num_rollouts=num_rollouts[i],
                        last_success=last.get(row.ordinal),
                        numbers=numbers[i],
                        strangers=others[i],
                    )
                )
            )
            for i, row in enumerate(rows)
        ]

    async def _last_successes(
        self, context: RunContext, scaffold: Scaffolding, rows: Sequence[TaskRow]
    ) -> dict[int, int]:
        """The level at which each task succeeded when its last group at that level did.

        A level's streak says whether its last group succeeded; of several such levels the most
        recent counts, then the lowest.
        """
        if not scaffold.needs_history:
            return {}
        ordinals = [row.ordinal for row in rows]
        found = await self._ground.ledger.statistics(context.row.id, ordinals, context.shape)
        stats = found.values
        best: dict[int, tuple[int, int]] = {}
        for i, key in enumerate(found.keys):
            if key.kind == scaffold.kind and key.level > 0 and stats.z_easy_N[i] > 0:
                rank = (int(stats.last_N[i]), -key.level)
                best[key.ordinal] = max(best.get(key.ordinal, rank), rank)
        return {ordinal: -level for ordinal, (_, level) in best.items()}

    async def _strangers(
        self,
        context: RunContext,
        scaffold: Scaffolding,
        *,
        aids: Sequence[Aids],
        numbers: Sequence[Floats],
    ) -> list[list[str]]:
        """Documents of other tasks for each task, as many as its scaffold wants."""
        wanted = [scaffold.num_strangers(known) for known in aids]
        if not any(wanted):
            return [[] for _ in aids]
        pool_N = await self._pool(context)
        chance = [n[scaffold.num_numbers(a) :] for n, a in zip(numbers, aids, strict=True)]
        tasks = [candidates(pool_N, mine) for mine in chance]
        documents = await self._documents(context, {task for mine in tasks for task in mine})
        return [
            strangers(tasks[i], documents, own=a.documents, numbers=chance[i], wanted=wanted[i])
            for i, a in enumerate(aids)
        ]

    async def _pool(self, context: RunContext) -> Ints:
        """Tasks of the run with documents; what is imported later is not among them."""
        run = context.row
        if run.id not in self._pools:
            found = await self._ground.catalog.tasks_with_aid(
                run.spec.dataset_id, run.spec.sources, "documents", among=run.num_tasks
            )
            while len(self._pools) >= _MAX_POOLS:
                self._pools.pop(next(iter(self._pools)))
            self._pools[run.id] = np.array(found, dtype=np.int64)
        return self._pools[run.id]

    async def _documents(self, context: RunContext, tasks: set[int]) -> Mapping[int, Sequence[str]]:
        ordinals = sorted(tasks)
        rows = await self._ground.tasks.by_ordinals(context.row.spec.dataset_id, ordinals)
        return {row.ordinal: Aids.model_validate_json(row.aids).documents for row in rows}


def _numbers(context: RunContext, drawn: Drawn, scaffold: Scaffolding, aids: Aids) -> Floats:
    """Uniform numbers of an entry: the scaffold's own, then those that choose strangers."""
    num = scaffold.num_numbers(aids) + num_draws(scaffold.num_strangers(aids))
    return uniforms(
        context.row.spec.seed,
        ordinals_N=np.full(num, drawn.ordinal, dtype=np.int64),
        entries_N=np.full(num, drawn.entry, dtype=np.int64),
        key=_CHANCE,
        number=np.arange(1, num + 1, dtype=np.int64),
    )


def _messages(row: TaskRow) -> list[Message]:
    return _MESSAGES.validate_python(orjson.loads(row.body)["messages"])


def _encoded(served: Served) -> bytes:
    fields: dict[str, object] = {"scaffold": served.scaffold.model_dump(mode="json")}
    if served.ladder is not None:
        fields["ladder"] = served.ladder.model_dump(mode="json")
    if served.self_example is not None:
        fields["self_example"] = served.self_example.model_dump(mode="json")
    return orjson.dumps(fields)[1:-1]
