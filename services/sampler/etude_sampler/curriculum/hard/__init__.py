"""Tasks that never succeed: found, practised with demonstrations, parked, tried again.

Dynamic multi-round hard sampling (algorithms.md 4.1; idea ToolExpander 2510.07737, state machine
ours). `machine` moves one task's state, `pace` the run's rounds and limits, `sampling` ties both to
lanes, `multi_round` is the part with its knobs. Neighbour: `curriculum.demonstrations`.
"""

from __future__ import annotations

from .machine import (
    FEW_SHOT,
    HardConstants,
    Visit,
    after_visit,
    resolved,
    zeros_of,
)
from .pace import Census, HardPace, census
from .sampling import HARD_LANE, PROBE_LANE, HardSampling

__all__ = [
    "FEW_SHOT",
    "HARD_LANE",
    "PROBE_LANE",
    "Census",
    "HardConstants",
    "HardPace",
    "HardSampling",
    "Visit",
    "after_visit",
    "census",
    "resolved",
    "zeros_of",
]
