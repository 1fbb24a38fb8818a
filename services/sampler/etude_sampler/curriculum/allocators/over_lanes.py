"""What the allocators over lanes share: lanes compete for slots, tasks in a lane are alike.

A part derives a config from `LanesConfig` and says how its pace moves and what the lanes get.
Component weights stay 1; mastery is tracked as ever. Neighbours: `dump`, `sec`, `tscl`, `ladder`;
`tracking` has the knobs of mastery.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from etude_sampler.curriculum.faults import ConfigFault
from etude_sampler.curriculum.mastery import (
    MasteryKnobs,
    fold_mastery,
    initial_state,
    view_mastery,
)
from etude_sampler.curriculum.pace import ALLOCATOR
from etude_sampler.curriculum.parts import Allocator, Context
from etude_sampler.curriculum.state import AllocatorState, FoldInput, SubtaskNumbers
from etude_sampler.statistics import Bools, Floats, Ints

from .tracking import MasteryConfig, lane_shares


@dataclass(frozen=True, slots=True, eq=False)
class LaneGroups:
    """Groups of one lane in one policy version, in apply order."""

    rollouts_N: Ints
    """Valid rollouts of each group."""
    success_N: Floats
    """Share of right ones."""

    @property
    def abs_a_N(self) -> Floats:
        """Mean absolute advantage of a group's success, `2 sqrt(p (1 - p))`."""
        return 2.0 * np.sqrt(self.success_N * (1.0 - self.success_N))

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.rollouts_N)

    def mean(self, values_N: Floats) -> float:
        """Mean over rollouts of what each group's rollouts have in common."""
        return math.fsum(values_N * self.rollouts_N) / int(self.rollouts_N.sum())


def groups_of(folded: FoldInput, k: int) -> LaneGroups:
    """The groups of the tasks that stand in component lane `k`."""
    mine_N: Bools = ~np.isnan(folded.mean_NK[:, k])
    num_N = folded.num_valid_N[mine_N]
    return LaneGroups(num_N, folded.num_success_N[mine_N] / np.maximum(num_N, 1))


def softmax(values: Sequence[float], temperature: float) -> list[float]:
    """`exp(v / temperature)`, summing to 1; safe for any finite values."""
    largest = max(values)
    powers = [math.exp((value - largest) / temperature) for value in values]
    total = math.fsum(powers)
    return [power / total for power in powers]


def numbers(value: JsonValue) -> list[float]:
    """A list of numbers out of a pace.

    Raises:
        ValueError: something else.
    """
    if not isinstance(value, list):
        raise ValueError(f"{value!r} in a pace is no list")
    found = [x for x in value if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(found) != len(value):
        raise ValueError(f"{value!r} in a pace holds more than numbers")
    return [float(x) for x in found]


class LanesConfig(MasteryConfig):
    """Base: lanes compete by a pace that moves with their groups."""

    @abstractmethod
    def start(self, num_lanes: int) -> JsonValue:
        """The pace before the first version."""

    @abstractmethod
    def moved(self, pace: JsonValue, lanes: Sequence[LaneGroups], *, version: int) -> JsonValue:
        """The pace after the groups of a version, given lane by lane."""

    @abstractmethod
    def parts(self, pace: JsonValue) -> list[float]:
        """Relative shares of the component lanes, in lane order; not all 0."""

    def build(self, context: Context) -> Allocator:
        """The allocator; refuses a run with fewer than two component lanes."""
        if len(context.subtasks) < 2:
            raise ConfigFault(
                "/curriculum/lanes_by",
                f"{self.name} shares slots out between lanes, and by {context.lanes_by} this run "
                f"has {len(context.subtasks)}: it needs two",
            )
        return LanesAllocator(context, self, self.mastery_knobs(context))


@dataclass(frozen=True, slots=True)
class LanesAllocator:
    """Shares by the config's rule, component weights 1."""

    context: Context
    config: LanesConfig
    knobs: MasteryKnobs

    def initial(self, num_subtasks: int) -> AllocatorState:
        """State before the first fold."""
        return replace(
            initial_state(num_subtasks), pace={ALLOCATOR: self.config.start(num_subtasks)}
        )

    def fold(self, state: AllocatorState, folded: FoldInput) -> AllocatorState:
        """Mastery and pace moved by one version."""
        lanes = [groups_of(folded, k) for k in range(len(self.context.subtasks))]
        pace = self.config.moved(self._pace(state), lanes, version=folded.num_acked_batches)
        moved = fold_mastery(state, folded, knobs=self.knobs)
        return replace(moved, pace={**moved.pace, ALLOCATOR: pace})

    def shares(self, state: AllocatorState) -> Floats:
        """Shares [1 + K]: `control_share` for `uniform`, the rest by the rule."""
        parts = self.config.parts(self._pace(state))
        return lane_shares(parts, control_share=self.context.control_share)

    def component_weights(self, state: AllocatorState) -> Floats:
        """Always 1."""
        return np.ones(len(self.context.subtasks))

    def view(self, state: AllocatorState) -> list[SubtaskNumbers]:
        """What is known of each lane."""
        return view_mastery(state, self.knobs, context=self.context)

    def _pace(self, state: AllocatorState) -> JsonValue:
        """Of a run that another allocator began: the start."""
        return state.pace.get(ALLOCATOR, self.config.start(len(self.context.subtasks)))
