"""What every allocator shares: the knobs of the mastery estimate, and shares from weights.

Neighbours: `fixed` and `tdcl` extend the config; `curriculum.mastery` does the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.mastery import MasteryKnobs
from etude_sampler.curriculum.parts import AllocatorConfig, Context
from etude_sampler.statistics import Floats

THRESHOLDS = {"format": 0.98, "tool_name": 0.95, "param_name": 0.95, "param_value": 0.90}
"""Mastery thresholds of the four ToolRL components (section 3.7, our choice)."""


class MasteryConfig(AllocatorConfig):
    """Base: knobs of the mastery estimate."""

    b: float = Field(default=0.1, gt=0.0, le=1.0)
    """Step of the EMA of mastery over policy versions."""
    tau: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(
        default_factory=dict, max_length=32
    )
    """Mastery thresholds by sub-task; those not given keep .98 / .95 / .95 / .90 (ToolRL)."""
    tau_other: float = Field(default=0.9, gt=0.0, le=1.0)
    """Threshold of sub-tasks that are neither given in `tau` nor one of ToolRL's."""
    mastery_source: Literal["all", "control"] = "all"
    """Groups that mastery is estimated from: all, or those of lane `uniform` only."""
    iota: bool = True
    """Weigh groups by `1 / (N_u p)`, since the curriculum draws a biased sample."""

    follow: Literal["ema", "trend"] = "ema"
    """Mastery that deficits are taken of: M, which lags, or the trend, as it is now."""

    def filled(self, context: Context) -> Self:
        """With the threshold of each of the run's sub-tasks; refuses unknown sub-tasks."""
        for name in self.tau:
            if name not in context.subtasks:
                raise KnobFault(
                    ("tau", name), f"not a sub-task of this run: {', '.join(context.subtasks)}"
                )
        given = THRESHOLDS | self.tau
        tau = {name: given.get(name, self.tau_other) for name in context.subtasks}
        return self.model_copy(update={"tau": tau})

    def mastery_knobs(self, context: Context) -> MasteryKnobs:
        """The knobs for the run's sub-tasks, in lane order."""
        tau = self.filled(context).tau
        return MasteryKnobs(
            b=self.b,
            control_only=self.mastery_source == "control",
            use_iota=self.iota,
            tau_K=tuple(tau[name] for name in context.subtasks),
            follow_trend=self.follow == "trend",
        )


def lane_shares(parts_K: Sequence[float], *, control_share: float) -> Floats:
    """Shares [1 + K]: `uniform` first, the rest in proportion to `parts_K` (section 3.5).

    Without component lanes, `uniform` gets everything.
    """
    if not parts_K:
        return np.ones(1)
    total = math.fsum(parts_K)
    rest = 1.0 - control_share
    return np.array([control_share, *(rest * part / total for part in parts_K)])
