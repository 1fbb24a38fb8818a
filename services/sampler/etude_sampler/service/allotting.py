"""How many rollouts the tasks of a drawn batch get: the run's budget, asked once per lease.

What it says is kept with the lease and in the decision log: a repeated call and the report see the
same numbers, whatever was reported meanwhile. Neighbours: `prompts` asks after every draw,
`replay_budgets` asks again, `reporting` judges by the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from etude_proto.v1 import GateVerdict
from etude_sampler.curriculum.allotment import BudgetInput
from etude_sampler.statistics import TaskStatistics

from ..ports.allotments import Allotments, Allotted
from ..ports.races import EpochMismatch, NoTasks, PromptLease
from .context import RunContext
from .hard_states import allotted_by_lane
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
    ordinals = sorted(one.ordinal for one in found.drawn)
    stats = await statistics_now(ground, context, ordinals)
    said = await ground.races.allot(
        context.key, found.lease_id, found.fence, decide(context, ordinals, stats)
    )
    if isinstance(said, str):
        raise EpochMismatch("a lease ended before its rollouts were allotted")
    return replace(found, allotted=said)


def decide(context: RunContext, ordinals: Sequence[int], stats: TaskStatistics) -> Allotments:
    """What the run's budget gives these tasks, in ascending order of their ordinals.

    Args:
        context: a run with a budget.
        ordinals: ascending: ties between tasks never depend on the order of a reply.
        stats: un-scaffolded statistics [N] of these tasks.
    """
    budget = context.curriculum.budget
    assert budget is not None
    found = budget.allot(BudgetInput(stats, context.row.spec.group_size))
    columns = (found.num_rollouts_B, found.screen_B, found.train_B)
    rows = zip(ordinals, *(np.asarray(column).tolist() for column in columns), strict=True)
    return {ordinal: Allotted(num, screen, train) for ordinal, num, screen, train in rows}


def rollouts_of(context: RunContext, lease: PromptLease) -> list[Allotted]:
    """What each drawn task gets, in the order drawn; the group size where nothing was decided.

    A probe gets what its lane says, whatever the budget would give it.
    """
    kept = lease.allotted or {}
    if context.curriculum.hard is None:
        plain = Allotted(context.row.spec.group_size)
        return [kept.get(one.ordinal, plain) for one in lease.drawn]
    found = [(one.ordinal, allotted_by_lane(context, one)) for one in lease.drawn]
    return [kept.get(ordinal, own) if own.train else own for ordinal, own in found]


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
