"""Rollouts of the simulated learner: a chain of coin flips, ToolRL's reward (algorithms.md 11).

Neighbours: `world` gives the chances, `statistics` folds the outcomes, `step` learns from them.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.curriculum.allotment import Allotment
from etude_sampler.statistics import Bools, Floats, Ints, OutcomeArrays

from .world import World

FLIP_PROBABILITY = 0.01
"""A scored format (and value, of tasks with calls) q becomes 1 - q this often."""


def roll_out(
    world: World,
    chances_NK: Floats,
    tasks_B: Ints,
    *,
    group_size: int,
    weights_K: Floats,
    noise: np.random.Generator,
) -> OutcomeArrays:
    """Groups of `group_size` rollouts of the tasks, scored as observed.

    Args:
        world: the tasks.
        chances_NK: [N, 4] chances of all tasks now.
        tasks_B: [B] rows of the tasks to roll out.
        group_size: G.
        weights_K: [4] weights of the reward's components, from the lease.
        noise: the learner's chance for this batch.
    """
    num_params_B = world.num_params_N[tasks_B]
    is_call_B1 = (num_params_B > 0)[:, None]
    chances_BK, shape = chances_NK[tasks_B], (len(tasks_B), group_size)
    coins_BG3 = noise.random((*shape, 3)) < chances_BK[:, None, :3]
    held_BG3 = np.cumprod(coins_BG3, axis=2).astype(np.float64)
    right_BG = noise.binomial(num_params_B[:, None], chances_BK[:, 3:], shape)
    value_BG = held_BG3[:, :, 2] * right_BG / np.maximum(num_params_B, 1)[:, None]
    flips_BG2 = noise.random((*shape, 2)) < FLIP_PROBABILITY
    q_BGK = np.concatenate([held_BG3, value_BG[:, :, None]], axis=2)
    q_BGK[:, :, 0] = np.where(flips_BG2[:, :, 0], 1.0 - q_BGK[:, :, 0], q_BGK[:, :, 0])
    q_BGK[:, :, 3] = np.where(flips_BG2[:, :, 1], 1.0 - q_BGK[:, :, 3], q_BGK[:, :, 3])
    q_BGK[:, :, 1:] = np.where(is_call_B1[:, :, None], q_BGK[:, :, 1:], np.nan)
    return OutcomeArrays(
        q_NGK=q_BGK,
        reward_NG=rewards(q_BGK, num_params_B, weights_K),
        success_NG=np.all(np.isnan(q_BGK) | (q_BGK == 1.0), axis=2).astype(np.float64),
        valid_NG=np.ones(shape, dtype=np.bool_),
    )


def spend(made: OutcomeArrays, allotment: Allotment) -> tuple[OutcomeArrays, Bools]:
    """What is left of groups that were all made as large as the largest.

    Rollouts beyond a task's number, and those of a second phase that its first one did not call
    for, never happened: nobody sees them, and nobody pays for them.

    Returns:
        The outcomes, and which groups were stopped after their first phase.
    """
    number_1G = np.arange(made.valid_NG.shape[1])[None, :]
    screen_B1 = allotment.screen_B[:, None]
    right_B = np.sum(made.success_NG, axis=1, where=number_1G < screen_B1)
    is_mixed_B = (right_B > 0) & (right_B < allotment.screen_B)
    stopped_B = (allotment.screen_B > 0) & ~is_mixed_B
    num_B = np.where(stopped_B, allotment.screen_B, allotment.num_rollouts_B)
    happened_NG = number_1G < num_B[:, None]
    if happened_NG.all():
        return made, stopped_B
    return (
        OutcomeArrays(
            q_NGK=np.where(happened_NG[:, :, None], made.q_NGK, np.nan),
            reward_NG=np.where(happened_NG, made.reward_NG, np.nan),
            success_NG=np.where(happened_NG, made.success_NG, np.nan),
            valid_NG=happened_NG,
        ),
        stopped_B,
    )


def scored(held_NK: Floats) -> Floats:
    """Expected scores [N, 4] of tasks whose components truly hold with these chances."""
    scored_NK = held_NK.copy()
    scored_NK[:, [0, 3]] = held_NK[:, [0, 3]] * (1.0 - 2.0 * FLIP_PROBABILITY) + FLIP_PROBABILITY
    return scored_NK


def rewards(q_NGK: Floats, num_params_N: Ints, weights_K: Floats) -> Floats:
    """ToolRL's reward with component weights and one gold call (sections 2.2 and 3.6), [N, G].

    `w_f q_f + 6 (w_n q_n + w_p q_p + w_v K q_v) / (w_n + w_p + w_v K) - 3`, in [-3, 4] at weights
    1; `w_f q_f` without a call.
    """
    scale_N3 = np.stack([np.ones_like(num_params_N), np.ones_like(num_params_N), num_params_N], 1)
    scale_N3 = scale_N3 * weights_K[1:]
    score_NG = np.sum(np.nan_to_num(q_NGK[:, :, 1:]) * scale_N3[:, None, :], axis=2)
    correct_NG = 6.0 * score_NG / np.sum(scale_N3, axis=1)[:, None] - 3.0
    is_call_N1 = (num_params_N > 0)[:, None]
    rewards_NG: Floats = weights_K[0] * q_NGK[:, :, 0] + np.where(is_call_N1, correct_NG, 0.0)
    return rewards_NG
