"""Knobs that budgets with a fixed total share: the fewest and the most rollouts of a task."""

from __future__ import annotations

from pydantic import Field

from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.parts import BudgetConfig


class BoundedConfig(BudgetConfig):
    """Base of the budgets that divide tasks times group size among the tasks of a batch."""

    low: int = Field(default=2, ge=2, le=1024)
    """Fewest rollouts of a task: two make a group."""
    high: int = Field(default=128, ge=2, le=1024)
    """Most rollouts of a task."""

    def check(self) -> None:
        """Refuse bounds that are upside down.

        Raises:
            KnobFault: naming the knob.
        """
        if self.low > self.high:
            raise KnobFault(("low",), f"must not be above high ({self.high})")

    def fits(self, group_size: int) -> None:
        """Refuse a group size that no batch could have on average.

        Raises:
            KnobFault: naming the knob.
        """
        if group_size < self.low:
            raise KnobFault(("low",), f"must not be above the run's group_size ({group_size})")
        if group_size > self.high:
            raise KnobFault(("high",), f"must not be below the run's group_size ({group_size})")
