"""Allocator `tdcl`: slots and reward weights move to less-mastered sub-tasks (3.4 and 3.5).

Follows the published idea of DSCL (2509.14718: training shifts adaptively to less-mastered
sub-tasks); the formulas and every constant are our choice. Neighbour: `curriculum.mastery`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.mastery import (
    MasteryKnobs,
    deficits,
    fold_mastery,
    followed,
    initial_state,
    prerequisite_factors,
    view_mastery,
)
from etude_sampler.curriculum.parts import Allocator, Context
from etude_sampler.curriculum.state import AllocatorState, FoldInput, SubtaskNumbers
from etude_sampler.statistics import Floats

from .tracking import MasteryConfig, lane_shares


class TdclConfig(MasteryConfig):
    """Move slots and component weights, in small steps, to sub-tasks below their threshold."""

    name: ClassVar[str] = "tdcl"
    paper: ClassVar[str] = "idea of DSCL 2509.14718, formulas ours"
    state: ClassVar[str] = "mastery, component weights"

    lam: float = Field(default=1.5, ge=0.0, le=100.0)
    """How strongly a deficit above the mean raises a weight."""
    w_min: float = Field(default=0.5, gt=0.0, le=1.0)
    """Smallest target weight, before rescaling."""
    w_max: float = Field(default=2.0, ge=1.0, le=100.0)
    """Largest target weight, before rescaling."""
    step: float = Field(default=0.05, gt=0.0, le=100.0)
    """Most that a component weight moves in one policy version."""
    warmup_batches: int = Field(default=2, ge=0, le=1_000_000)
    """Component weights stay 1 until this many training batches were acked."""
    adapt: bool = True
    """Whether weights move at all; otherwise mastery is only tracked."""

    @property
    def moves_weights(self) -> bool:
        """If they move at all."""
        return self.adapt

    def build(self, context: Context) -> Allocator:
        """The allocator."""
        return TdclAllocator(context, self, self.mastery_knobs(context))


def target_weights(deficits_K: Sequence[float], knobs: TdclConfig) -> list[float]:
    """`clip(1 + lam (z - mean z), w_min, w_max)`, rescaled to sum K.

    The rescaled target may leave [w_min, w_max]; it stays within
    `K w_min / (w_min + (K-1) w_max)` and `K w_max / (w_max + (K-1) w_min)`.
    """
    num = len(deficits_K)
    mean = math.fsum(deficits_K) / num
    clipped = [
        min(knobs.w_max, max(knobs.w_min, 1.0 + knobs.lam * (deficit - mean)))
        for deficit in deficits_K
    ]
    scale = num / math.fsum(clipped)
    return [weight * scale for weight in clipped]


def step_towards(
    weights_K: Sequence[float], target_K: Sequence[float], *, step: float
) -> list[float]:
    """A straight-line step that keeps the sum and moves no weight by more than `step`."""
    difference = [target - weight for target, weight in zip(target_K, weights_K, strict=True)]
    largest = max(abs(value) for value in difference)
    if largest <= step:
        return list(target_K)
    return [
        weight + step / largest * value for weight, value in zip(weights_K, difference, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class TdclAllocator:
    """Shares and component weights by deficit."""

    context: Context
    config: TdclConfig
    knobs: MasteryKnobs

    def initial(self, num_subtasks: int) -> AllocatorState:
        """State before the first fold."""
        return initial_state(num_subtasks)

    def fold(self, state: AllocatorState, folded: FoldInput) -> AllocatorState:
        """Mastery moved by one version, then the weights by one step (unless warming up)."""
        moved = fold_mastery(state, folded, knobs=self.knobs)
        warm = folded.num_acked_batches >= self.config.warmup_batches
        if not (moved.w_K and warm and self.config.adapt):
            return moved
        mastery_K = followed(moved, self.knobs)
        factors = prerequisite_factors(mastery_K, self.knobs.tau_K, context=self.context)
        target = target_weights(deficits(mastery_K, self.knobs.tau_K, factors), self.config)
        weights = step_towards(moved.w_K, target, step=self.config.step)
        return replace(moved, w_K=tuple(weights))

    def shares(self, state: AllocatorState) -> Floats:
        """`rho` for `uniform`, `(1 - rho) w_k / sum w` for the component lanes."""
        return lane_shares(state.w_K, control_share=self.context.control_share)

    def component_weights(self, state: AllocatorState) -> Floats:
        """The state's weights."""
        return np.array(state.w_K, dtype=np.float64)

    def view(self, state: AllocatorState) -> list[SubtaskNumbers]:
        """What is known of each sub-task."""
        return view_mastery(state, self.knobs, context=self.context)
