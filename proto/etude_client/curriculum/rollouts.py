"""What a trainer says of a rollout, and the outcome that the sampler is told.

Pure. `facade.py` builds reports with it; adapters of frameworks make `Rollout`s of their rewards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etude_proto.v1 import FinishReason, Outcome

ALMOST_ONE = 1.0 - 1e-6
"""Components at least this large count as 1: rewards often come as float32."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One scored rollout of a task.

    Raises:
        ValueError: a number is not finite, or a component is outside [0, 1].
    """

    reward: float
    """The scalar that the trainer learns from, in its own units."""
    components: Mapping[str, float] = field(default_factory=dict)
    """Reward components in [0, 1], by sub-task; those that do not apply are left out."""
    success: bool | None = None
    """Whether the task is solved; default: all components are 1, or, without any, reward >= 1."""
    finish_reason: FinishReason = FinishReason.STOP
    """`timeout`, `error` and `aborted` say that the rollout is no evidence of the policy."""
    num_tokens: int = 0
    """Completion tokens."""
    num_turns: int = 1

    def __post_init__(self) -> None:
        if not math.isfinite(self.reward):
            raise ValueError(f"reward must be finite, not {self.reward}")
        for name, value in self.components.items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"component {name!r} must be in [0, 1], not {value}")

    @property
    def is_success(self) -> bool:
        """Whether it counts as solved."""
        if self.success is not None:
            return self.success
        if not self.components:
            return self.reward >= ALMOST_ONE
        return all(value >= ALMOST_ONE for value in self.components.values())


Scored = Rollout | float | Mapping[str, float]
"""A rollout; or its components, whose sum is the reward; or the value of its only component."""


def rollout_of(scored: Scored, subtasks: Sequence[str]) -> Rollout:
    """The rollout that a number or a mapping stands for.

    Args:
        scored: see `Scored`.
        subtasks: of its task.

    Raises:
        ValueError: a number is given for a task of several sub-tasks, or a value is out of range.
    """
    if isinstance(scored, Rollout):
        return scored
    if isinstance(scored, Mapping):
        components = {name: float(value) for name, value in scored.items()}
        return Rollout(reward=math.fsum(components.values()), components=components)
    value = float(scored)
    if len(subtasks) > 1:
        raise ValueError(
            f"the task has the sub-tasks {', '.join(subtasks)}: give a value for each, "
            f"{{{subtasks[0]!r}: {value}, ...}}, or a Rollout"
        )
    return Rollout(reward=value, components=dict.fromkeys(subtasks, value))


def outcome_of(rollout: Rollout, version: int | None = None) -> Outcome:
    """A rollout as the contract has it, made by a policy version, by default the lease's."""
    return Outcome(
        components=dict(rollout.components),
        reward=rollout.reward,
        success=rollout.is_success,
        finish_reason=rollout.finish_reason,
        num_turns=rollout.num_turns,
        num_tokens=rollout.num_tokens,
        min_policy_version=version,
        max_policy_version=version,
    )
