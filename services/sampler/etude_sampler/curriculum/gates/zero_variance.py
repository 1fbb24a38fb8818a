"""Gate `zero_variance`: drop groups that teach nothing (DAPO's dynamic sampling, section 3.3).

The variance is that of the rule reward before shaping, or of the raw components. Dropped groups
are reported and counted like any other. Neighbour: `statistics.group` computes the variances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.parts import Context, Gate, GateConfig
from etude_sampler.statistics import Bools, GroupSummary


@dataclass(frozen=True, slots=True)
class ZeroVarianceGate:
    """Admits groups whose variance exceeds `keep_variance`."""

    keep_variance: float
    on_components: bool

    def admit(self, summary: GroupSummary) -> Bools:
        """[N]: whether the reward's (or some component's) variance is large enough."""
        if self.on_components:
            informative_NK = summary.var_NK > self.keep_variance
            return np.asarray(np.any(informative_NK, axis=1), dtype=np.bool_)
        return np.asarray(summary.reward_var_N > self.keep_variance, dtype=np.bool_)


class ZeroVarianceConfig(GateConfig):
    """Admit a group if its rewards, or some component of it, differ between rollouts."""

    name: ClassVar[str] = "zero_variance"
    paper: ClassVar[str] = "DAPO 2503.14476, on the variance"

    keep_variance: float = Field(default=1e-8, ge=0.0, le=100.0)
    """Population variance that must be exceeded."""
    on: Literal["reward", "components"] = "reward"
    """`reward`: the rule reward; `components`: any active component (decoupled advantages)."""

    def build(self, context: Context) -> Gate:
        """The gate."""
        return ZeroVarianceGate(self.keep_variance, self.on == "components")
