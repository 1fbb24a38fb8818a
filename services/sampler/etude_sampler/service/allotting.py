"""How many rollouts the tasks of a drawn batch get: the run's budget, asked once per lease.

What it says is kept with the lease and in the decision log: a repeated call and the report see the
same numbers, whatever was reported meanwhile. Neighbours: `prompts` asks after every draw,
`replay_budgets` asks again, `reporting` judges by the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from etude_proto.v1 import GateVerdict
from etude_sampler.curriculum.allotment import BudgetInput
from etude_sampler.statistics import TaskStatistics

from ..ports.allotments import Allotments, Allotted
from ..ports.races import EpochMismatch, NoTasks, PromptLease
from .context import RunContext
from .hard_states import Taken, allotted_by_lane
from .steps import Ground
from .weighing import statistics_now


async def allot(
    ground: Ground, context: RunContext, found: PromptLease | NoTasks
) -> PromptLease | NoTasks:
    """The lease with what its tasks get; as it is if the run has no budget.

    Raises:
        EpochMismatch: Redis does not hold the run, or the lease has ended.
    """
    if isinstance(found, NoTasks) or context.curriculum.budget is None:
        return found
    if found.allotted is not None:
        return found
    taken = {one.ordinal: Taken(one.lane, one.weight_micro) for one in found.drawn}
    stats = await statistics_now(ground, context, sorted(taken))
    said = await ground.races.allot(
        context.key, found.lease_id, found.fence, decide(context, taken, stats)
    )
    if isinstance(said, str):
        raise EpochMismatch("a lease ended before its rollouts were allotted")
    return replace(found, allotted=said)


def decide(context: RunContext, taken: Mapping[int, Taken], stats: TaskStatistics) -> Allotments:
    """What these tasks get, in ascending order of their ordinals.

    The budget divides among those that no lane of hard sampling decides about.

    Args:
        context: a run with a budget.
        taken: how each task was drawn, by ordinal.
        stats: un-scaffolded statistics [N] of these tasks, by ascending ordinal: ties between
            tasks never depend on the order of a reply.
    """
    budget = context.curriculum.budget
    assert budget is not None
    ordinals = sorted(taken)
    by_lane = {ordinal: allotted_by_lane(context, taken[ordinal]) for ordinal in ordinals}
    rest = [row for row, ordinal in enumerate(ordinals) if by_lane[ordinal] is None]
    left = stats.select(np.array(rest, dtype=np.int64))
    found = budget.allot(BudgetInput(left, context.row.spec.group_size))
    columns = (found.num_rollouts_B, found.screen_B, found.train_B)
    rows = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    divided = (Allotted(num, screen, train) for num, screen, train in rows)
    return {ordinal: by_lane[ordinal] or next(divided) for ordinal in ordinals}


def rollouts_of(context: RunContext, lease: PromptLease) -> list[Allotted]:
    """What each drawn task gets, in the order drawn: the group size where nothing is decided."""
    kept, plain = lease.allotted or {}, Allotted(context.row.spec.group_size)
    return [
        kept.get(one.ordinal)
        or allotted_by_lane(context, Taken(one.lane, one.weight_micro))
        or plain
        for one in lease.drawn
    ]


def item_fields(one: Allotted) -> bytes:
    """The fields of a prompt item that say so, as JSON without the braces."""
    parts = [b'"num_rollouts":%d' % one.num_rollouts]
    if one.screen:
        parts.append(b'"screen":{"num_rollouts":%d}' % one.screen)
    if not one.train:
        parts.append(b'"train":false')
    return b",".join(parts)


def held_back(allotted: Allotted | None, num_outcomes: int) -> GateVerdict | None:
    """Why a group is not trained on whatever its gate says: it was stopped, or is a probe.

    A screened group with no more rollouts than its first phase was stopped.
    """
    if allotted is None:
        return None
    if not allotted.train:
        return GateVerdict.PROBE
    return GateVerdict.SCREENED if num_outcomes <= allotted.screen else None
