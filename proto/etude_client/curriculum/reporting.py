"""Reports of a batch's groups: one call a lease, put together from the parts of all ranks.

Pure. `facade.py` gathers the parts and sends the calls.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from etude_proto.v1 import Attempt, GroupReport, Report

from .batch import Batch
from .entries import Entry
from .rollouts import Rollout, Scored, outcome_of, rollout_of

Made = dict[str, list[Rollout]]
"""By task, the rollouts that one rank made."""

MOST_OUTCOMES = 16384
"""Rollouts of one call; what is more goes into further ones (our choice: a few megabytes)."""


def made_of(batch: Batch, groups: Mapping[str, Sequence[Scored]]) -> Made:
    """The rollouts of this rank.

    Raises:
        KeyError: a task is not in the batch.
        ValueError: an outcome makes no sense.
    """
    items = {item.task_id: item for item in reversed(batch.items)}
    made: Made = {}
    for name, group in groups.items():
        item = items.get(name) or batch.item(name)
        made[name] = [rollout_of(one, item.subtasks) for one in group]
    return made


def part_of(batch: Batch, groups: Mapping[str, Sequence[Scored]]) -> Made | Exception:
    """As `made_of`, with what it raises as a value, so that no rank waits for one that failed."""
    try:
        return made_of(batch, groups)
    except Exception as error:
        return error


def parts_of(mine: Made | Exception, parts: Sequence[Made | Exception]) -> list[Made]:
    """What the ranks made.

    Raises:
        Exception: what failed on this rank.
        ValueError: what failed on another one.
    """
    if isinstance(mine, Exception):
        raise mine
    made: list[Made] = []
    for rank, part in enumerate(parts):
        if isinstance(part, Exception):
            raise ValueError(f"rank {rank} could not report: {part}") from part
        made.append(part)
    return made


def entries_of(
    batch: Batch, parts: Sequence[Made], *, worker: str, version: int | None = None
) -> tuple[list[Entry], int]:
    """One report a lease, or several if it is long; and the number of groups without a lease.

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
            Report(fence=lease.fence, groups=groups, worker=worker),
            uuid.uuid4().hex,
            lease.id,
        )
        for lease in batch.leases
        for groups in _calls(by_lease.get(lease.id, []))
    ]
    return entries, num_alone


def _calls(groups: list[GroupReport]) -> list[list[GroupReport]]:
    """Groups in calls of at most `MOST_OUTCOMES` rollouts, or of one group."""
    calls: list[list[GroupReport]] = []
    room = 0
    for group in groups:
        size = sum(len(attempt.outcomes) for attempt in group.attempts)
        if size > room:
            calls.append([])
            room = MOST_OUTCOMES
        calls[-1].append(group)
        room -= size
    return calls
