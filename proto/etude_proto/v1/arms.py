"""The two arms of a run: what uniform slots and the curriculum's slots brought, side by side.

Both arms train one policy. They say which tasks teach more now, not what the run would be without
its curriculum: that takes a fork (`etude runs compare`).
"""

from __future__ import annotations

from .base import Response


class Interval(Response):
    """An estimate with its 95 % interval; null where there is too little to say."""

    mean: float | None
    low: float | None
    high: float | None


class ArmMoments(Response):
    """Sums over an arm's un-scaffolded groups. Those of several versions may be added."""

    num_groups: float
    num_informative: float
    num_rollouts: float
    """Valid ones."""
    num_success: float
    reward: float
    """Sum of the rule rewards of all valid rollouts."""
    num_tokens: float
    rollouts_sq: float
    """Sum over groups of the squared number of rollouts; the next three alike."""
    success_sq: float
    reward_sq: float
    tokens_sq: float
    success_rollouts: float
    """Sum over groups of successes times rollouts; the next two alike."""
    reward_rollouts: float
    reward_tokens: float


class ArmFigures(Response):
    """What one arm brought."""

    num_groups: int
    num_rollouts: int
    num_tokens: int
    informative_share: Interval
    """Groups whose rule reward varied (Wilson's interval)."""
    success_rate: Interval
    """Of valid rollouts; the interval treats a group as one observation, here and below."""
    mean_reward: Interval
    """Rule reward of a valid rollout."""
    reward_per_1k_tokens: Interval
    """Rule reward earned by 1,000 sampled tokens."""
    moments: ArmMoments
    """What the figures are made of."""


class ArmGap(Response):
    """Curriculum less control; an interval that holds 0 shows nothing."""

    informative_share: Interval
    success_rate: Interval
    mean_reward: Interval
    reward_per_1k_tokens: Interval


class ArmsView(Response):
    """Both arms over some policy versions, un-scaffolded groups only."""

    num_versions: int
    """Versions that they cover."""
    control: ArmFigures
    curriculum: ArmFigures
    gap: ArmGap
