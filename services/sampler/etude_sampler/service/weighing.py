"""What tasks weigh now: the stored statistics through the run's weigher, in every lane.

Used where no report brings fresh statistics along: releases, expiries, ageing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from etude_sampler.statistics import Ints, empty

from ..ports.ledger import BARE, StatisticsKey
from ..ports.races import EpochMismatch
from .context import RunContext
from .entering import lane_weights
from .folding import join
from .steps import Ground


async def announced_version(ground: Ground, context: RunContext) -> int:
    """The policy version that Redis serves.

    Raises:
        EpochMismatch: Redis does not hold the run at this epoch.
    """
    (marker,) = await ground.races.markers([context.row.id])
    if marker is None or marker.epoch != context.row.epoch:
        raise EpochMismatch("version")
    return marker.version


async def weights_now(
    ground: Ground, context: RunContext, ordinals: Sequence[int], *, version: int
) -> Ints:
    """[N, 1 + K] integer weights of tasks at a policy version, `uniform` first."""
    run_id, shape = context.row.id, context.shape
    found = await ground.ledger.statistics(run_id, ordinals, shape)
    tasks = await ground.tasks.by_ordinals(context.row.spec.dataset_id, ordinals)
    rows = {key: i for i, key in enumerate(found.keys)}
    values = join(found.values, empty(1, shape.num_subtasks, shape.fresh))
    at = [rows.get(StatisticsKey(ordinal, *BARE), len(found.keys)) for ordinal in ordinals]
    return lane_weights(
        context,
        values.select(np.array(at, dtype=np.int64)),
        context.active([task.subtasks for task in tasks]),
        version=version,
    )
