"""Hard sampling in the service: which pace counts, what a report and a fold do to it.

The states of tasks move in the report's transaction, the pace in the version's; both by
`curriculum.hard`, and replay goes through the same functions. `hard_turns` moves tasks between
lanes when a round has ended, `demonstrations` keeps what they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from etude_proto.v1 import GateVerdict
from etude_sampler.curriculum import AllocatorState, Curriculum, FoldInput
from etude_sampler.curriculum.hard import HARD_LANE, PROBE_LANE, HardSampling, Visit
from etude_sampler.statistics import Floats

from ..ports.allotments import Allotted
from .context import RunContext


class PaceMoved(Exception):
    """A report was planned with the pace of another version than its transaction sees."""


class Taken(NamedTuple):
    """How a task was drawn, as far as it matters for its rollouts."""

    lane: int
    weight_micro: int


def hard_at(curriculum: Curriculum, state: AllocatorState) -> HardSampling | None:
    """Hard sampling at the pace of a state; None if the run has none."""
    hard = curriculum.hard
    return None if hard is None else hard.at(state.pace["hard"])


def hard_for_report(context: RunContext, version: int) -> HardSampling | None:
    """Hard sampling at the pace of the version that a report's transaction sees.

    Raises:
        PaceMoved: the context is of another version; come again with a fresh one.
    """
    if context.curriculum.hard is None:
        return None
    if context.row.policy_version != version:
        raise PaceMoved
    return hard_at(context.curriculum, context.state())


def visit_rows(x_NE: Floats, visits: Sequence[tuple[int, Visit]], hard: HardSampling) -> None:
    """Move notes, in place, by groups in this order, each with the row of its task's notes."""
    for row, visit in visits:
        x_NE[row] = hard.visited(x_NE[row], visit)


def with_run(
    context: RunContext, folded: FoldInput, *, num_groups: int, live: Sequence[bytes]
) -> FoldInput:
    """What a fold must know of the whole run, if hard sampling is on.

    Args:
        context: of the run.
        folded: the un-scaffolded groups.
        num_groups: groups at any scaffold.
        live: packed notes of every task whose state is not plain.
    """
    if context.curriculum.hard is None:
        return folded
    width = len(context.shape.fresh)
    return replace(
        folded,
        num_groups=num_groups,
        num_tasks=context.row.num_tasks,
        live_ME=np.frombuffer(b"".join(live), dtype="<f8").reshape(len(live), width),
    )


def allotted_by_lane(context: RunContext, taken: Taken) -> Allotted | None:
    """What a drawn task gets whatever the run's budget says; None: what the budget says.

    A probe gets what its weight asks for. A guided task gets the group size: hard tasks are never
    answered with more rollouts, and a budget knows of bare successes only.
    """
    hard = context.curriculum.hard
    lane = None if hard is None else context.curriculum.lanes[taken.lane]
    if hard is not None and lane == PROBE_LANE:
        return Allotted(hard.served(taken.weight_micro), train=False)
    return Allotted(context.row.spec.group_size) if lane == HARD_LANE else None


def gate_of_lane(context: RunContext, lane: int) -> GateVerdict | None:
    """The verdict that a lane alone decides: a probe is not trained on."""
    is_probe = context.curriculum.hard is not None and (
        context.curriculum.lanes[lane] == PROBE_LANE
    )
    return GateVerdict.PROBE if is_probe else None
