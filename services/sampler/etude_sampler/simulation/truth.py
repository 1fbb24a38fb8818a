"""Weights that only the world can give: the oracles that bound every strategy (section 11, ours).

Neighbours: `strategies` names them, `practice` lets them re-weigh every task at each step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Floats

from .rollout import rewards
from .step import COMPONENT_RATE, FAMILY_RATE, readiness
from .world import MAX_PARAMS, Skills, World, chances, exponents, true_success

OTHERS = 1e-6
"""Weight of the tasks that an oracle does not want."""


def best(values_N: Floats, num_tasks: int) -> Floats:
    """Weights that draw the `num_tasks` largest: 1 for these, next to nothing for the others."""
    weights_N = np.full(len(values_N), OTHERS)
    weights_N[np.argsort(-values_N, kind="stable")[:num_tasks]] = 1.0
    return weights_N


def success_variance(world: World, skills: Skills) -> Floats:
    """[N] true p (1 - p) of success."""
    success_N = true_success(world, chances(world, skills))
    return success_N * (1.0 - success_N)


def expected_gain(world: World, skills: Skills) -> Floats:
    """[N] what one rollout of the task is expected to add to the mean success of sound tasks.

    The gradient of mean success along the expected move of the skills, to first order, in units of
    a step's 512th. Forgetting and the readiness of later families are left out.
    """
    chances_NK = chances(world, skills)
    success_N = true_success(world, chances_NK)
    slope_NK = success_N[:, None] * exponents(world) * (1.0 - chances_NK)
    slope_NK = slope_NK * world.is_sound_N[:, None] / np.count_nonzero(world.is_sound_N)
    family_F = np.bincount(
        world.family_N, weights=slope_NK.sum(axis=1), minlength=len(skills.phi_F)
    )
    lesson = expected_lesson(world, chances_NK)
    ready_F = readiness(world, success_N)
    gain_N: Floats = COMPONENT_RATE * (lesson.credited_NK @ slope_NK.sum(axis=0))
    gain_N += FAMILY_RATE * (ready_F * family_F)[world.family_N] * lesson.signal_N
    return gain_N


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a group of a task teaches on average."""

    signal_N: Floats
    """Expected mean absolute advantage."""
    credited_NK: Floats
    """The same by component."""


def expected_lesson(world: World, chances_NK: Floats, *, group_size: int = 8) -> Lesson:
    """The lesson of each task now, from the exact law of one rollout.

    Seven outcomes: the first of format, name and keys that fails, or v of K values right. A large
    group's signal, times `sqrt((1 - 1/G) P)` with P the chance that G rollouts are not all alike:
    the expected variance of G is `(1 - 1/G)` of the true one, and all of it lies in mixed groups.
    For binary rewards that is right within 2 %. The scoring noise of 1 % is left out, so that
    all tasks, mastered ones most, teach more than this says; it is their order that counts.
    """
    outcome_NOK, law_NO = _law(world, chances_NK)
    reward_NO = rewards(outcome_NOK, world.num_params_N, np.ones(chances_NK.shape[1]))
    mean_N1 = np.sum(law_NO * reward_NO, axis=1, keepdims=True)
    std_N = np.sqrt(np.sum(law_NO * (reward_NO - mean_N1) ** 2, axis=1))
    distance_N = np.sum(law_NO * np.abs(reward_NO - mean_N1), axis=1)
    mixed_N = 1.0 - np.sum(law_NO**group_size, axis=1)
    small_N = np.sqrt((1.0 - 1.0 / group_size) * mixed_N)
    signal_N = small_N * distance_N / np.maximum(std_N, 1e-9)
    filled_NOK = np.nan_to_num(outcome_NOK)
    centre_NK = np.sum(law_NO[:, :, None] * filled_NOK, axis=1)
    spread_NK = np.sqrt(
        np.sum(law_NO[:, :, None] * (filled_NOK - centre_NK[:, None, :]) ** 2, axis=1)
    )
    total_N1 = np.maximum(spread_NK.sum(axis=1, keepdims=True), 1e-9)
    return Lesson(signal_N, signal_N[:, None] * spread_NK / total_N1)


def _law(world: World, chances_NK: Floats) -> tuple[Floats, Floats]:
    """Components [N, 7, 4] of the seven outcomes of a rollout, and their chances [N, 7]."""
    num, params_N = len(chances_NK), world.num_params_N
    format_N, name_N, key_N, value_N = chances_NK.T
    reached_N = format_N * name_N * key_N
    law_NO = np.zeros((num, 4 + MAX_PARAMS))
    outcome_NOK = np.zeros((num, 4 + MAX_PARAMS, 4))
    law_NO[:, 0], law_NO[:, 1] = 1.0 - format_N, format_N * (1.0 - name_N)
    law_NO[:, 2] = format_N * name_N * (1.0 - key_N)
    outcome_NOK[:, 1:, 0] = outcome_NOK[:, 2:, 1] = outcome_NOK[:, 3:, 2] = 1.0
    for right in range(MAX_PARAMS + 1):
        ways_N = np.array([_choose(int(n), right) for n in range(MAX_PARAMS + 1)])[params_N]
        wrong_N = np.maximum(params_N - right, 0)
        law_NO[:, 3 + right] = reached_N * ways_N * value_N**right * (1.0 - value_N) ** wrong_N
        outcome_NOK[:, 3 + right, 3] = np.minimum(1.0, right / np.maximum(params_N, 1))
    plain_N = ~world.is_call_N
    law_NO[plain_N] = 0.0
    law_NO[plain_N, 0], law_NO[plain_N, 3] = 1.0 - format_N[plain_N], format_N[plain_N]
    outcome_NOK[plain_N, :, 1:] = np.nan
    return outcome_NOK, law_NO


def _choose(n: int, k: int) -> float:
    """Binomial coefficient; 0 for k > n."""
    value = 1.0
    for j in range(k):
        value = value * (n - j) / (j + 1)
    return value
