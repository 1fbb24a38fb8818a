"""Which lanes the simulated tasks stand in: components, families as sources, or levels.

Levels come from 8 offline rollouts of the beginner at every task, which the arm pays for. Lanes of
families and levels are scored by success, as in real runs. Neighbours: `practice` enters the tasks,
`strategies` names the lanes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_proto.v1.curriculum import LanesBy
from etude_sampler.curriculum.levels import STEPS, level
from etude_sampler.statistics import Bools, OutcomeArrays

from .rollout import roll_out
from .traits import FAMILIES
from .world import World, beginner, chances, stream

_SCREENING_STREAM = 3


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Lanes of all tasks, and what it cost to know them."""

    active_NK: Bools
    by_success: bool
    """Lanes are scored by success, not by components."""
    screening: OutcomeArrays | None = None
    """The offline rollouts, one group a task."""

    @property
    def num_offline(self) -> int:
        """Rollouts that it cost."""
        return 0 if self.screening is None else self.screening.reward_NG.size

    def scored(self, outcomes: OutcomeArrays, tasks_B: np.ndarray) -> OutcomeArrays:
        """The outcomes as the lanes see them."""
        if not self.by_success:
            return outcomes
        inside_B1K = self.active_NK[tasks_B][:, None, :]
        q_BGK = np.where(inside_B1K, outcomes.success_NG[:, :, None], np.nan)
        return OutcomeArrays(q_BGK, outcomes.reward_NG, outcomes.success_NG, outcomes.valid_NG)


def lanes_of(
    lanes_by: LanesBy, components: tuple[str, ...], world: World | None, *, seed: int
) -> tuple[str, ...]:
    """Component lanes in order: of a world only the levels that it has, else all of them."""
    if lanes_by == "subtasks":
        return components
    if lanes_by == "source":
        return FAMILIES
    if world is None:
        return tuple(f"level_{step}" for step in range(STEPS + 1))
    return tuple(sorted(set(_levels(_screened(world, seed)))))


def make_standing(
    world: World, lanes_by: LanesBy, names: tuple[str, ...], *, seed: int
) -> Standing:
    """Where the world's tasks stand.

    Args:
        world: the tasks.
        lanes_by: what a lane is.
        names: component lanes, in order.
        seed: of the offline rollouts.
    """
    if lanes_by == "subtasks":
        return Standing(world.active_NK, by_success=False)
    screening = None
    if lanes_by == "source":
        lane_N = [FAMILIES[f] for f in world.family_N]
    else:
        screening = _screened(world, seed)
        lane_N = _levels(screening)
    active_NK = np.array([[lane == name for name in names] for lane in lane_N], dtype=np.bool_)
    return Standing(active_NK, by_success=True, screening=screening)


def _screened(world: World, seed: int) -> OutcomeArrays:
    """A group of 8 of the beginner for every task."""
    return roll_out(
        world,
        chances(world, beginner()),
        np.arange(len(world.family_N)),
        group_size=STEPS,
        weights_K=np.ones(world.difficulty_NK.shape[1]),
        noise=stream(seed, _SCREENING_STREAM),
    )


def _levels(screening: OutcomeArrays) -> list[str]:
    """The lane of each task."""
    rates_N = screening.success_NG.mean(axis=1).tolist()
    return [f"level_{round(STEPS * level(rate))}" for rate in rates_N]
