"""Reports of a batch's groups: one call a lease, put together from the parts of all ranks.

Pure. `facade.py` gathers the parts and sends the calls.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from etude_proto.v1 import Attempt, GroupReport, Report

from .batch import Batch
from .outbox import Entry
from .rollouts import Rollout, Scored, outcome_of, rollout_of

Made = dict[str, list[Rollout]]
"""By task, the rollouts that one rank made."""


def made_of(batch: Batch, groups: Mapping[str, Sequence[Scored]]) -> Made:
    """The rollouts of this rank.

    Raises:
        KeyError: a task is not in the batch.
        ValueError: an outcome makes no sense.
    """
    return {
        name: [rollout_of(one, batch.item(name).subtasks) for one in group]
        for name, group in groups.items()
    }


def entries_of(
    batch: Batch, parts: Sequence[Made], *, worker: str, version: int | None = None
) -> tuple[list[Entry], int]:
    """One report a lease, and the number of groups that no lease covers.

    Args:
        version: policy version that made the rollouts; default: the lease's.
    """
    by_lease: dict[str, list[GroupReport]] = {}
    num_alone = 0
    for name in dict.fromkeys(name for part in parts for name in part):
        outcomes = [outcome_of(one, version) for part in parts for one in part.get(name, ())]
        lease = batch.item(name).lease
        if lease is None:
            num_alone += 1
        elif outcomes:
            group = GroupReport(task_id=name, attempts=[Attempt(outcomes=outcomes)])
            by_lease.setdefault(lease.id, []).append(group)
    entries = [
        Entry(
            Report(fence=lease.fence, groups=by_lease[lease.id], worker=worker),
            uuid.uuid4().hex,
            lease.id,
        )
        for lease in batch.leases
        if lease.id in by_lease
    ]
    return entries, num_alone
