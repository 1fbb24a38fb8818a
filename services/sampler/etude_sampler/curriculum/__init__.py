"""The curriculum: which tasks run how fast, which sub-tasks get how many slots (algorithms.md 3).

Pure functions of statistics; `resolve` and `build` turn a run's config into its parts.
"""

from __future__ import annotations

from .asking import lanes_by, reads_features
from .banking import BankRule
from .binding import Banking, Dated, Paced, Seeing, bank_of, dated
from .faults import ConfigFault, KnobFault
from .fitting import check_fit, helps_episodes, moves_weights, takes_bare
from .mastery import importance
from .micro import micro
from .pace import at_pace, fold_state, is_paced, same_parts, start_state
from .parts import (
    Allocator,
    AllocatorConfig,
    Context,
    Gate,
    GateConfig,
    PartConfig,
    PartTable,
    Weigher,
    WeigherConfig,
)
from .presets import PRESETS, Preset
from .resolve import UNIFORM, Curriculum, build, resolve
from .shares import lane_shares
from .state import AllocatorState, FoldInput, SubtaskNumbers
from .table import describe, part_table

__all__ = [
    "PRESETS",
    "UNIFORM",
    "Allocator",
    "AllocatorConfig",
    "AllocatorState",
    "BankRule",
    "Banking",
    "ConfigFault",
    "Context",
    "Curriculum",
    "Dated",
    "FoldInput",
    "Gate",
    "GateConfig",
    "KnobFault",
    "Paced",
    "PartConfig",
    "PartTable",
    "Preset",
    "Seeing",
    "SubtaskNumbers",
    "Weigher",
    "WeigherConfig",
    "at_pace",
    "bank_of",
    "build",
    "check_fit",
    "dated",
    "describe",
    "fold_state",
    "helps_episodes",
    "importance",
    "is_paced",
    "lane_shares",
    "lanes_by",
    "micro",
    "moves_weights",
    "part_table",
    "reads_features",
    "resolve",
    "same_parts",
    "start_state",
    "takes_bare",
]
