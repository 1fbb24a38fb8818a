"""Whether a run's limits leave room for what its curriculum may ask (design: bounded).

Called when a run is created and when its limits change. Neighbours: `resolve` checks the
curriculum against itself and the dataset.
"""

from __future__ import annotations

from etude_proto.v1.curriculum import ResolvedCurriculum
from etude_proto.v1.runs import RunLimits

from .faults import ConfigFault
from .naming import configured
from .resolve import build, check_group_size
from .table import part_table

ROLLOUT_BYTES = 4096
"""Fewest bytes of trajectories per rollout, about 300 tokens: less room is a mistake (ours)."""


def check_fit(
    resolved: ResolvedCurriculum, *, group_size: int, limits: RunLimits, keeps_tokens: bool
) -> None:
    """Refuse a run in which a batch of its curriculum could not be rolled out or kept.

    Args:
        resolved: the run's curriculum.
        group_size: G.
        limits: the run's.
        keeps_tokens: whether reports carry trajectories.

    Raises:
        ConfigFault: naming the field.
    """
    check_group_size(resolved, group_size)
    budget = build(resolved).budget
    if budget is None:
        return
    largest = budget.largest(group_size)
    if largest > limits.max_group_rollouts:
        raise ConfigFault(
            "/limits/max_group_rollouts", f"the budget may allot {largest} rollouts to a task"
        )
    needed = largest * ROLLOUT_BYTES
    if keeps_tokens and limits.max_group_bytes < needed:
        raise ConfigFault(
            "/limits/max_group_bytes",
            f"a group of {largest} rollouts, which the budget may allot, needs {needed} or more",
        )


def takes_bare(resolved: ResolvedCurriculum) -> bool:
    """Whether tasks that lack what the scaffold shows may be served without help."""
    part = resolved.scaffold
    return part is None or configured(part_table().scaffolds, part, kind="scaffold").takes_bare
