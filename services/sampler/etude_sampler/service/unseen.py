"""Tasks never seen, whose weights are predictions and move with the policy all the same.

Only for weighers that predict from features. Neighbour: `versions` re-weighs them with the tasks
that age.
"""

from __future__ import annotations

from etude_sampler.curriculum import Seeing

from .context import RunContext
from .steps import Ground

MAX_UNSEEN = 10_000
"""Most tasks looked up at one version: of more, each turn takes the next ones (our choice)."""


async def unseen_due(ground: Ground, context: RunContext, *, first: int, version: int) -> list[int]:
    """Ordinals of unseen tasks to re-weigh at the versions `first` to `version`.

    A task never seen is of age t + 1 at version t, so their turns come ever less often. Those that
    do not wait are among them, too.
    """
    weigher = context.curriculum.weigher
    if not isinstance(weigher, Seeing):
        return []
    turns = [turn for turn, age in enumerate(weigher.refresh_ages) if first < age <= version + 1]
    if not turns:
        return []
    num_tasks = context.row.num_tasks
    after = 0 if num_tasks <= MAX_UNSEEN else turns[-1] * MAX_UNSEEN % num_tasks
    return await ground.ledger.never_seen(
        context.row.id, context.row.spec.dataset_id, first=after, limit=MAX_UNSEEN
    )
