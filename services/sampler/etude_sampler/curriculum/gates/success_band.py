"""Gate `success_band`: keep groups of middling success (online difficulty filtering, section 5).

Attributed to 2504.03380 by others; not checked in the paper. Neighbour: the weigher of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from etude_sampler.curriculum.parts import Context, Gate, GateConfig
from etude_sampler.statistics import Bools, GroupSummary


@dataclass(frozen=True, slots=True)
class SuccessBandGate:
    """Admits groups with `low <= m / G <= high`."""

    low: float
    high: float

    def admit(self, summary: GroupSummary) -> Bools:
        """[N]: whether the share of valid rollouts that succeed lies in the band."""
        share_N = summary.num_success_N / np.maximum(summary.num_valid_N, 1)
        inside_N = (share_N >= self.low) & (share_N <= self.high)
        return np.asarray(inside_N & (summary.num_valid_N > 0), dtype=np.bool_)


class SuccessBandGateConfig(GateConfig):
    """Admit a group if its share of successes lies in [low, high]."""

    name: ClassVar[str] = "success_band"
    paper: ClassVar[str] = "design input: 2504.03380"

    low: float = Field(default=0.2, ge=0.0, le=1.0)
    """Smallest share of successes."""
    high: float = Field(default=0.8, ge=0.0, le=1.0)
    """Largest share of successes."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError("low must not be above high")
        return self

    def build(self, context: Context) -> Gate:
        """The gate."""
        return SuccessBandGate(self.low, self.high)
