"""Gate `dapo`: keep groups in which some rollouts succeed and some fail (2503.14476, section 5).

Unlike `zero_variance` it counts successes, so a shaped reward cannot make an all-wrong group look
mixed. Over-drawing and refill are the run's limits (`refill_over_draw`, `refill_rounds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etude_sampler.curriculum.parts import Context, Gate, GateConfig
from etude_sampler.statistics import Bools, GroupSummary


@dataclass(frozen=True, slots=True)
class DapoGate:
    """Admits groups with `0 < m < G`."""

    def admit(self, summary: GroupSummary) -> Bools:
        """[N]: whether the valid rollouts are neither all right nor all wrong."""
        some_N = (summary.num_success_N > 0) & (summary.num_success_N < summary.num_valid_N)
        return np.asarray(some_N, dtype=np.bool_)


class DapoConfig(GateConfig):
    """Admit a group if 0 < m < G: some rollouts succeed, some do not."""

    name: ClassVar[str] = "dapo"
    paper: ClassVar[str] = "DAPO 2503.14476"

    def build(self, context: Context) -> Gate:
        """The gate."""
        return DapoGate()
