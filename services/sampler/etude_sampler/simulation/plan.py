"""Size of a simulated run. Neighbours: `practice` spends it, `protocol` gives all arms the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Size of a run; the same for every strategy."""

    budget: int = 102_400
    """Rollouts, whatever becomes of them; a multiple of a batch of the group size."""
    batch_tasks: int = 64
    group_size: int = 8

    def __post_init__(self) -> None:
        """Refuse a budget that is not a whole number of batches."""
        if self.budget < self.batch_rollouts or self.budget % self.batch_rollouts:
            raise ValueError(f"the budget must be a multiple of {self.batch_rollouts} rollouts")

    @property
    def batch_rollouts(self) -> int:
        """Rollouts of one batch."""
        return self.batch_tasks * self.group_size
