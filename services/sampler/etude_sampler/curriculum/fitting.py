"""Whether a run's limits leave room for what its curriculum may ask (design: bounded).

Called when a run is created and when its limits change. Neighbours: `resolve` checks the
curriculum against itself and the dataset.
"""

from __future__ import annotations

from etude_proto.v1.curriculum import ResolvedCurriculum
from etude_proto.v1.runs import RunLimits

from .binding import bank_of
from .faults import ConfigFault
from .naming import configured
from .resolve import build, check_group_size
from .table import part_table

ROLLOUT_BYTES = 4096
"""Fewest bytes of trajectories per rollout, about 300 tokens: less room is a mistake (ours)."""
MAX_ROLLOUTS = 1024
"""Most outcomes of an attempt, hence most rollouts of a group that is trained on."""


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
    curriculum = build(resolved)
    largest = group_size
    if curriculum.budget is not None:
        largest = curriculum.budget.largest(group_size)
        if largest > limits.max_group_rollouts:
            raise ConfigFault(
                "/limits/max_group_rollouts", f"the budget may allot {largest} rollouts to a task"
            )
    if curriculum.scaffold is not None:
        largest = curriculum.scaffold.largest(largest)
        if largest > MAX_ROLLOUTS:
            raise ConfigFault(
                "/group_size",
                f"{largest} rollouts may have to be trained on together, "
                f"at most {MAX_ROLLOUTS} can be reported",
            )
    if keeps_tokens and limits.max_staleness == 0 and bank_of(curriculum.gate) is not None:
        raise ConfigFault(
            "/limits/max_staleness",
            f"a replayed group is at least one version old: 0 leaves the bank of gate "
            f"{resolved.gate.name!r} nothing to replay; set its knob bank_groups to 0, or allow 1",
        )
    needed = largest * ROLLOUT_BYTES
    is_plain = curriculum.budget is None and largest == group_size
    if keeps_tokens and not is_plain and limits.max_group_bytes < needed:
        raise ConfigFault(
            "/limits/max_group_bytes",
            f"a group of {largest} rollouts, which the curriculum may ask for, "
            f"needs {needed} or more",
        )


def moves_weights(resolved: ResolvedCurriculum) -> bool:
    """Whether weights of reward components may become other than 1."""
    if resolved.lanes_by != "subtasks":
        return False
    return configured(part_table().allocators, resolved.allocator, kind="allocator").moves_weights


def helps_episodes(resolved: ResolvedCurriculum) -> bool:
    """Whether the run's scaffold, if it has one, can help tasks with an environment."""
    part = resolved.scaffold
    return part is None or configured(part_table().scaffolds, part, kind="scaffold").in_episodes


def takes_bare(resolved: ResolvedCurriculum) -> bool:
    """Whether tasks that lack what the scaffold shows may be served without help."""
    part = resolved.scaffold
    return part is None or configured(part_table().scaffolds, part, kind="scaffold").takes_bare
