"""What the sampler knows of a task: groups summarised, statistics folded (algorithms.md 1.1, 3.2).

Pure functions of numpy arrays; the layer below `curriculum` and `leasing`, importing neither.
"""

from __future__ import annotations

from .arrays import Bools, Floats, Ints
from .group import GroupSummary, OutcomeArrays, summarise
from .notes import Note, Shape, fresh_values, layout
from .task import EstimatorConstants, TaskStatistics, empty, fold

__all__ = [
    "Bools",
    "EstimatorConstants",
    "Floats",
    "GroupSummary",
    "Ints",
    "Note",
    "OutcomeArrays",
    "Shape",
    "TaskStatistics",
    "empty",
    "fold",
    "fresh_values",
    "layout",
    "summarise",
]
