"""Allocator `joint`: the lanes act as one race of all tasks (our choice).

For weighers that give a task one weight in all its lanes. Slots go only to lanes of sub-tasks
without prerequisites, in proportion to the tasks seen there: whoever exercises a later link of the
chain stands in the first lane too, and lanes of disjoint sub-tasks are drawn as often as they are
long. With ToolRL's chain every task stands in lane `format`, and the next task is i with exactly
`w_i / W`. Neighbour: `fixed`, whose mastery estimate it shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

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
class JointAllocator:
    """Shares by tasks seen, component weights 1."""

    context: Context
    knobs: MasteryKnobs

    def initial(self, num_subtasks: int) -> AllocatorState:
        """State before the first fold."""
        return initial_state(num_subtasks)

    def fold(self, state: AllocatorState, folded: FoldInput) -> AllocatorState:
        """Mastery moved by one version."""
        return fold_mastery(state, folded, knobs=self.knobs)

    def shares(self, state: AllocatorState) -> Floats:
        """Shares [1 + K]: `1 + n_k` for sub-tasks without prerequisites, 0 for the others."""
        parts_K = [
            0.0 if self.context.prerequisites.get(name) else 1.0 + seen
            for name, seen in zip(self.context.subtasks, state.n_K, strict=True)
        ]
        return lane_shares(parts_K, control_share=self.context.control_share)

    def component_weights(self, state: AllocatorState) -> Floats:
        """Always 1."""
        return np.ones(len(self.context.subtasks))

    def view(self, state: AllocatorState) -> list[SubtaskNumbers]:
        """What is known of each sub-task."""
        return view_mastery(state, self.knobs, context=self.context)


class JointConfig(MasteryConfig):
    """Make one race of all lanes: slots to sub-tasks without prerequisites, by tasks seen."""

    name: ClassVar[str] = "joint"
    paper: ClassVar[str] = "ours"
    state: ClassVar[str] = "mastery, tasks seen"

    def build(self, context: Context) -> Allocator:
        """The allocator."""
        return JointAllocator(context, self.mastery_knobs(context))
