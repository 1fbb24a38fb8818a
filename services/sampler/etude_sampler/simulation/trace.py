"""What happened in a simulated run. Neighbours: `practice` writes it, `metrics` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from etude_sampler.statistics import Floats, Ints

from .mastering import Estimates


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What happened; row b is the state after b batches, row 0 the start."""

    rollouts_B: Ints
    """Rollouts spent."""
    steps_B: Ints
    """Training steps made."""
    success_B: Floats
    """True mean success over sound tasks."""
    num_groups: int
    num_informative: int
    last_served_N: Ints
    """Batch (from 1) in which each task was served last; 0: never."""
    component_K: Floats
    """True mean chance of each component at the end, over the tasks that have it."""
    mastery_K: Floats
    """The estimate at the end, as of now; nan before the first fold, or of other lanes."""
    held_K: Floats
    """What mastery estimates: expected score of each component at the end, over these tasks."""
    estimates: Estimates | None = None
    """Both after each version; None: not known."""
