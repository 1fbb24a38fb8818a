"""Gate `none`: every applied group may be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from etude_sampler.curriculum.parts import Context, Gate, GateConfig
from etude_sampler.statistics import Bools, GroupSummary


@dataclass(frozen=True, slots=True)
class NoGate:
    """Admits everything."""

    def admit(self, summary: GroupSummary) -> Bools:
        """[N] true."""
        return np.ones(len(summary.num_valid_N), dtype=np.bool_)


class NoneConfig(GateConfig):
    """Admit every group."""

    name: ClassVar[str] = "none"
    paper: ClassVar[str] = "-"

    def build(self, context: Context) -> Gate:
        """The gate."""
        return NoGate()
