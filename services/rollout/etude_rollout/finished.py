"""A finished group, as it goes from `episode.py` and `turns/` to `outbox.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etude_proto.tensors import GroupTrajectories
from etude_proto.v1 import GroupReport, Outcome

from .rewards import Scored


@dataclass(frozen=True, slots=True)
class FinishedGroup:
    """A group, ready to be reported."""

    report: GroupReport
    trajectories: GroupTrajectories | None
    """Null when no rollout has a completion, or the group is not to be trained on."""
    scores: tuple[Scored, ...]
    """Of the rollouts that have a completion."""
    generate_s: float
    score_s: float

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """One per rollout that was made, whatever its scaffold."""
        attempts = [attempt for attempt in self.report.attempts if not attempt.merged]
        return [outcome for attempt in attempts for outcome in attempt.outcomes]
