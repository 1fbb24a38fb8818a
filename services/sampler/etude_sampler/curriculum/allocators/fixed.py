"""Allocator `fixed`: shares that never move; mastery is still tracked.

Neighbours: `curriculum.mastery` estimates, `tdcl` is the allocator that acts on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.mastery import (
    MasteryKnobs,
    fold_mastery,
    initial_state,
    view_mastery,
)
from etude_sampler.curriculum.parts import Allocator, Context
from etude_sampler.curriculum.state import AllocatorState, FoldInput, SubtaskNumbers
from etude_sampler.statistics import Floats

from .tracking import MasteryConfig, lane_shares


@dataclass(frozen=True, slots=True)
class FixedAllocator:
    """Fixed shares, component weights 1."""

    context: Context
    knobs: MasteryKnobs
    parts_K: tuple[float, ...]
    """Relative shares of the component lanes."""

    def initial(self, num_subtasks: int) -> AllocatorState:
        """State before the first fold."""
        return initial_state(num_subtasks)

    def fold(self, state: AllocatorState, folded: FoldInput) -> AllocatorState:
        """Mastery moved by one version."""
        return fold_mastery(state, folded, knobs=self.knobs)

    def shares(self, state: AllocatorState) -> Floats:
        """Shares [1 + K], always the same."""
        return lane_shares(self.parts_K, control_share=self.context.control_share)

    def component_weights(self, state: AllocatorState) -> Floats:
        """Always 1."""
        return np.ones(len(self.context.subtasks))

    def view(self, state: AllocatorState) -> list[SubtaskNumbers]:
        """What is known of each sub-task."""
        return view_mastery(state, self.knobs, context=self.context)


class FixedConfig(MasteryConfig):
    """Fixed shares of the slots: `control_share` for `uniform`, the rest equal or as given."""

    name: ClassVar[str] = "fixed"
    paper: ClassVar[str] = "-"
    state: ClassVar[str] = "mastery (shown only)"

    shares: dict[str, float] = Field(default_factory=dict, max_length=32)
    """Relative shares of the component lanes by name; lanes not named get none. Empty: equal."""

    def build(self, context: Context) -> Allocator:
        """The allocator; refuses shares of unknown lanes and shares that sum to nothing."""
        for name, share in self.shares.items():
            if name not in context.subtasks:
                raise KnobFault(
                    ("shares", name), f"not a lane of this run: {', '.join(context.subtasks)}"
                )
            if share < 0.0:
                raise KnobFault(("shares", name), "a share is not negative")
        parts_K = tuple(
            self.shares.get(name, 0.0) if self.shares else 1.0 for name in context.subtasks
        )
        if parts_K and sum(parts_K) <= 0.0:
            raise KnobFault(("shares",), "the shares sum to 0")
        return FixedAllocator(context, self.mastery_knobs(context), parts_K)
