"""Pooled prompt batches: lease more than is asked for, keep the best (algorithms.md 1.2, L8).

Draw, read, choose: three steps. Whoever dies between them strands nothing: a retry under the same
key finds the candidates and chooses the same, or their lease runs out after ten seconds. The first
choice that arrives holds. Neighbours: `prompts` calls it, `choosing` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import orjson

from etude_sampler.curriculum import at_pace
from etude_sampler.curriculum.levels import pass_rate_of
from etude_sampler.curriculum.parts import Pool
from etude_sampler.statistics import Floats

from ..ports.catalog import TaskRow
from ..ports.pools import PoolChoice
from ..ports.races import Drawn, DrawRequest, EpochMismatch, NoTasks, PromptLease
from .choosing import Read, candidates, decide, pack_reads
from .context import RunContext
from .entering import enter
from .identifiers import new_lease_id
from .steps import Ground
from .weighing import announced_version, statistics_now, weights_now


async def draw(ground: Ground, context: RunContext, request: DrawRequest) -> PromptLease | NoTasks:
    """Draw and lease; with a pool, choose among the candidates.

    Raises:
        EpochMismatch: Redis does not hold the run, or the lease ended before the choice.
    """
    pool = context.curriculum.pool
    if pool is None:
        return await ground.races.draw(context.key, request)
    lease_id = new_lease_id("lease", context.row.id, context.row.secret)
    request = replace(request, lease_id=lease_id, factor=pool.factor)
    found = await ground.races.draw(context.key, request)
    if isinstance(found, NoTasks):
        return found
    if found.num_to_keep:
        if context.row.policy_version != found.announced.version:
            context = await ground.contexts.refresh(context.row.id)
        choice = await _choice(ground, context, found)
        said = await ground.races.choose(context.key, found.lease_id, found.fence, choice)
        if said not in ("ok", "done"):
            raise EpochMismatch("candidates ran out before the choice")
        found = await ground.races.read_lease(context.key, found.lease_id)
    return replace(found, drawn=tuple(sorted(found.drawn, key=lambda one: one.ordinal)))


async def _choice(ground: Ground, context: RunContext, lease: PromptLease) -> PoolChoice:
    """What becomes of the candidates, with everything that the script needs for it."""
    pool = at_pace(context.curriculum, context.state().pace).pool
    assert pool is not None
    drawn = sorted(lease.drawn, key=lambda one: one.ordinal)
    read = await read_candidates(ground, context, pool, drawn)
    control_N, chosen_N = decide(context, pool, read, num_kept=lease.num_to_keep, fence=lease.fence)
    back_N = np.flatnonzero(~(control_N | chosen_N))
    items = []
    if len(back_N):
        ordinals, entries = read.ordinals_N[back_N].tolist(), (read.entries_N[back_N] + 1).tolist()
        version = await announced_version(ground, context)
        weights_NL = await weights_now(
            ground, context, ordinals, version=version, stats=read.stats.select(back_N)
        )
        items = enter(context, ordinals, entries, weights_NL)
    return PoolChoice(
        version=read.version,
        control=tuple(read.ordinals_N[control_N].tolist()),
        chosen=tuple(read.ordinals_N[chosen_N].tolist()),
        back=items,
        reads=pack_reads(read, pool),
    )


async def read_candidates(
    ground: Ground, context: RunContext, pool: Pool, drawn: Sequence[Drawn]
) -> Read:
    """What the pool reads of these tasks."""
    ordinals = [one.ordinal for one in drawn]
    prediction_N, pass_rate_N = np.full((2, len(drawn)), np.nan)
    if "prediction" in pool.reads:
        posted = await ground.ledger.predictions(context.row.id, ordinals)
        prediction_N = np.array([posted.get(ordinal, np.nan) for ordinal in ordinals])
    if "pass_rate" in pool.reads:
        tasks = await ground.tasks.by_ordinals(context.row.spec.dataset_id, ordinals)
        pass_rate_N = pass_rates(tasks)
    return Read(
        ordinals_N=np.array(ordinals, dtype=np.int64),
        entries_N=np.array([one.entry for one in drawn], dtype=np.int64),
        stats=await statistics_now(ground, context, ordinals),
        prediction_N=prediction_N,
        pass_rate_N=pass_rate_N,
        version=context.row.policy_version,
    )


async def value_explained(ground: Ground, context: RunContext, ordinal: int) -> str | None:
    """What the run's pool values a task by, in words; None without a pool."""
    pool = at_pace(context.curriculum, context.state().pace).pool
    if pool is None:
        return None
    read = await read_candidates(ground, context, pool, [Drawn(ordinal, 0, 0, 0, 0.0)])
    return pool.explain(candidates(context, read))


def pass_rates(tasks: Sequence[TaskRow]) -> Floats:
    """[N] offline pass rates that tasks came with; nan where there is none."""
    rates = [pass_rate_of(orjson.loads(task.body)["metadata"].get("pass_rate")) for task in tasks]
    return np.array([np.nan if rate is None else rate for rate in rates])
