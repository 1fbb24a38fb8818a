"""What tasks weigh now: the stored statistics through the run's weigher, in every lane.

Used where no report brings fresh statistics along: releases, expiries, ageing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from etude_sampler.curriculum import is_paced
from etude_sampler.statistics import Ints, TaskStatistics, empty

from ..ports.ledger import BARE, StatisticsKey
from ..ports.races import EpochMismatch
from .context import RunContext
from .entering import lane_weights
from .folding import join
from .steps import Ground
from .traits import features_of, members


async def announced_version(ground: Ground, context: RunContext) -> int:
    """The policy version that Redis serves.

    Raises:
        EpochMismatch: Redis does not hold the run at this epoch.
    """
    (marker,) = await ground.races.markers([context.row.id])
    if marker is None or marker.epoch != context.row.epoch:
        raise EpochMismatch("version")
    return marker.version


async def statistics_now(
    ground: Ground, context: RunContext, ordinals: Sequence[int]
) -> TaskStatistics:
    """Un-scaffolded statistics of tasks as they are stored, [N] in the order asked for."""
    shape = context.shape
    found = await ground.ledger.statistics(context.row.id, ordinals, shape)
    rows = {key: i for i, key in enumerate(found.keys)}
    values = join(found.values, empty(1, shape.num_subtasks, shape.fresh))
    at = [rows.get(StatisticsKey(ordinal, *BARE), len(found.keys)) for ordinal in ordinals]
    return values.select(np.array(at, dtype=np.int64))


async def aligned(ground: Ground, context: RunContext, version: int) -> tuple[RunContext, int]:
    """The run and the version to weigh with: one version, if weights depend on the pace.

    The pace is that of the context's version, hence a context older than `version` is read anew.
    """
    if not is_paced(context.curriculum):
        return context, version
    if context.row.policy_version < version:
        context = await ground.contexts.refresh(context.row.id)
    return context, context.row.policy_version


async def weights_now(
    ground: Ground,
    context: RunContext,
    ordinals: Sequence[int],
    *,
    version: int,
    stats: TaskStatistics | None = None,
) -> Ints:
    """[N, 1 + K] integer weights of tasks at a policy version, `uniform` first.

    `stats` spares the reading of the tasks' statistics to whom has them.
    """
    context, version = await aligned(ground, context, version)
    tasks = await ground.tasks.by_ordinals(context.row.spec.dataset_id, ordinals)
    return lane_weights(
        context,
        await statistics_now(ground, context, ordinals) if stats is None else stats,
        context.active([members(context.curriculum, task) for task in tasks]),
        version=version,
        features_NF=features_of(context.curriculum, tasks),
    )
