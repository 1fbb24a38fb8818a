"""The curriculum: which tasks run how fast, which sub-tasks get how many slots (algorithms.md 3).

Pure functions of statistics; `resolve` and `build` turn a run's config into its parts.
"""

from __future__ import annotations

from .faults import ConfigFault, KnobFault
from .mastery import importance
from .micro import micro
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
from .state import AllocatorState, FoldInput, SubtaskNumbers
from .table import describe, part_table

__all__ = [
    "PRESETS",
    "UNIFORM",
    "Allocator",
    "AllocatorConfig",
    "AllocatorState",
    "ConfigFault",
    "Context",
    "Curriculum",
    "FoldInput",
    "Gate",
    "GateConfig",
    "KnobFault",
    "PartConfig",
    "PartTable",
    "Preset",
    "SubtaskNumbers",
    "Weigher",
    "WeigherConfig",
    "build",
    "describe",
    "importance",
    "micro",
    "part_table",
    "resolve",
]
