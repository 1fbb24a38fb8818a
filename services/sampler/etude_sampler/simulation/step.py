"""One training step of the simulated learner (algorithms.md 11, ours).

Neighbours: `rollout` makes the groups, `practice` decides which of them a step is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Floats, Ints, OutcomeArrays

from .world import START_SKILL, Skills, World, mean_by_family

STEP_ROLLOUTS = 512
"""Rollouts in kept groups that make a step, whatever the sizes of batch and group."""
COMPONENT_RATE = 0.06
FAMILY_RATE = 0.10
FORGETTING = 0.002
"""Share of the way back to the start that every step loses."""
FAMILY_MASTERY = 0.5
"""Mean success of the family before at which a family learns at full rate."""


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """What groups teach; one row a group."""

    family_N: Ints
    size_N: Ints
    """Rollouts of the group."""
    signal_N: Floats
    """Mean absolute advantage; 0 without variance."""
    credit_NK: Floats
    """Share of each component in the group's spread; 0 where nothing varies."""

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.size_N)

    def select(self, rows: slice | Ints) -> Signals:
        """Some of the groups, in order."""
        return Signals(
            self.family_N[rows], self.size_N[rows], self.signal_N[rows], self.credit_NK[rows]
        )


def signals(family_N: Ints, outcomes: OutcomeArrays) -> Signals:
    """`sig = mean |A|` with population std + 1e-6, `c_k = std_k / sum std`, inside each group."""
    reward_NG, q_NGK = outcomes.reward_NG, outcomes.q_NGK
    # A mask changes the order of additions, so that it is not given where nothing is masked.
    all_there = bool(outcomes.valid_NG.all())
    there_NG = True if all_there else outcomes.valid_NG
    there_NGK = True if all_there else outcomes.valid_NG[:, :, None]
    std_N = reward_NG.std(axis=1, where=there_NG)
    mean_N1 = reward_NG.mean(axis=1, keepdims=True, where=there_NG)
    distance_N = np.abs(reward_NG - mean_N1).mean(axis=1, where=there_NG)
    spread_NK = np.nan_to_num(q_NGK.std(axis=1, where=there_NGK))
    total_N1 = spread_NK.sum(axis=1, keepdims=True)
    return Signals(
        family_N=family_N,
        size_N=np.count_nonzero(outcomes.valid_NG, axis=1),
        signal_N=np.where(std_N <= 1e-4, 0.0, distance_N / (std_N + 1e-6)),
        credit_NK=np.divide(spread_NK, total_N1, out=np.zeros_like(spread_NK), where=total_N1 > 0),
    )


def join(first: Signals, second: Signals) -> Signals:
    """Both, in order."""
    return Signals(
        np.concatenate([first.family_N, second.family_N]),
        np.concatenate([first.size_N, second.size_N]),
        np.concatenate([first.signal_N, second.signal_N]),
        np.concatenate([first.credit_NK, second.credit_NK]),
    )


def enough(groups: Signals) -> int | None:
    """How many of the oldest groups make a step; None while there are too few."""
    total_N = np.cumsum(groups.size_N)
    place = int(np.searchsorted(total_N, STEP_ROLLOUTS))
    return None if place == len(total_N) else place + 1


def readiness(world: World, success_N: Floats) -> Floats:
    """`pre_f = min(1, true mean success of the family before / .5)`, [F]; 1 for the first.

    The mean is over all tasks of the family, mislabelled ones included.
    """
    means_F = mean_by_family(world, success_N)
    ready_F: Floats = np.minimum(1.0, means_F / FAMILY_MASTERY)
    return np.concatenate([[1.0], ready_F[:-1]])


def advance(skills: Skills, groups: Signals, ready_F: Floats) -> Skills:
    """The skills after one step on `groups`, forgetting included."""
    force_N = groups.size_N * groups.signal_N / STEP_ROLLOUTS
    by_family_F = np.bincount(groups.family_N, weights=force_N, minlength=len(skills.phi_F))
    learned_K = force_N @ groups.credit_NK
    return Skills(
        theta_K=skills.theta_K
        + COMPONENT_RATE * learned_K
        - FORGETTING * (skills.theta_K - START_SKILL),
        phi_F=skills.phi_F + FAMILY_RATE * ready_F * by_family_F - FORGETTING * skills.phi_F,
    )
