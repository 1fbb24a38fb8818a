"""Rollouts as outcomes, the words in which they are reported. Used by `episode.py`, `climbing.py`.

Infrastructure failures have no components and no reward; they are never scored 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from etude_proto.v1 import FinishReason, Outcome, Task

from .rolling import Sample


def outcome_of(sample: Sample, task: Task) -> Outcome:
    """What the sampler learns of a rollout."""
    completion, scored = sample.completion, sample.scored
    if not sample.is_valid:
        return failure(completion.finish_reason)
    # A sub-task that is no reward component is a category: its component is success
    # (algorithms.md 3.1).
    categories = {name: float(scored.success) for name in task.subtasks}
    return Outcome(
        components={**categories, **scored.components},
        reward=scored.total,
        shaping=sample.shaping,
        success=scored.success,
        finish_reason=completion.finish_reason,
        num_tokens=len(completion.token_ids),
        min_policy_version=min(completion.versions, default=0),
        max_policy_version=max(completion.versions, default=0),
    )


def outcomes_of(samples: Sequence[Sample], task: Task) -> list[Outcome]:
    """One per rollout."""
    return [outcome_of(sample, task) for sample in samples]


def failure(reason: FinishReason) -> Outcome:
    """An outcome that says nothing about the policy: no components, and no reward to fold."""
    return Outcome(components={}, reward=0.0, success=False, finish_reason=reason, num_turns=0)
