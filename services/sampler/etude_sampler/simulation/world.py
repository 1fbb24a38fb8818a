"""The simulated learner's world: tasks, skills, and what is true of them (algorithms.md 11, ours).

It says nothing about language models. Neighbours: `rollout` draws outcomes from the chances,
`step` moves the skills, `truth` weighs tasks by what only the world knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Bools, Floats, Ints

FAMILY_PROBABILITIES = (0.30, 0.22, 0.18, 0.14, 0.10, 0.06)
"""How the tasks fall into families."""
FAMILY_OFFSETS = (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0)
"""What a family adds to the difficulty of its tasks."""
NO_CALL_PROBABILITY = 0.12
"""Tasks whose gold has no call: they have the first component only."""
MISLABELLED_PROBABILITY = 0.03
"""Tasks with calls whose gold is wrong."""
MISLABELLED_SHIFT = 8.0
"""What a wrong gold adds to the difficulty of the value."""
MAX_PARAMS = 3
"""Gold parameters are uniform in 1..MAX_PARAMS."""
COMPONENT_DIFFICULTIES = (-2.5, -0.6, 0.2, 1.0)
"""Mean difficulty of format, tool name, parameter names, parameter values."""
SPREAD = 0.8
"""Standard deviation of a task's own difficulty, and of each of its components'."""
START_SKILL = -1.0
"""Component skill before training; forgetting pulls back to it."""
_TASKS_STREAM, _LEARNER_STREAM = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """N tasks with four components each; arrays never change."""

    family_N: Ints
    num_params_N: Ints
    """Gold parameters; 0 for a task without calls."""
    is_sound_N: Bools
    """False where the gold is wrong."""
    difficulty_NK: Floats
    """Latent difficulty in logits."""

    @property
    def is_call_N(self) -> Bools:
        """Whether the gold has a call."""
        return self.num_params_N > 0

    @property
    def active_NK(self) -> Bools:
        """[N, 4]: which components a task has."""
        active_NK = np.repeat(self.is_call_N[:, None], self.difficulty_NK.shape[1], axis=1)
        active_NK[:, 0] = True
        return active_NK


@dataclass(frozen=True, slots=True, eq=False)
class Skills:
    """What the learner can do, in logits."""

    theta_K: Floats
    """By component."""
    phi_F: Floats
    """By family."""


def stream(seed: int, kind: int, block: int = 0) -> np.random.Generator:
    """An independent stream of a seed: counter-based, so block b does not depend on block b - 1."""
    return np.random.Generator(np.random.Philox(key=[seed, kind], counter=[0, 0, block, 0]))


def learner_noise(seed: int, batch: int) -> np.random.Generator:
    """The learner's chance in batch `batch`, the same for every strategy."""
    return stream(seed, _LEARNER_STREAM, batch)


def make_world(seed: int, *, num_tasks: int = 2000) -> World:
    """The tasks of seed `seed`; every strategy meets the same ones."""
    chance = stream(seed, _TASKS_STREAM)
    family_N = chance.choice(len(FAMILY_OFFSETS), size=num_tasks, p=FAMILY_PROBABILITIES)
    is_call_N = chance.random(num_tasks) >= NO_CALL_PROBABILITY
    num_params_N = np.where(is_call_N, chance.integers(1, MAX_PARAMS + 1, num_tasks), 0)
    is_sound_N = ~(is_call_N & (chance.random(num_tasks) < MISLABELLED_PROBABILITY))
    own_N = SPREAD * chance.standard_normal(num_tasks)
    each_NK = SPREAD * chance.standard_normal((num_tasks, len(COMPONENT_DIFFICULTIES)))
    shift_N = np.array(FAMILY_OFFSETS)[family_N] + own_N
    difficulty_NK = np.array(COMPONENT_DIFFICULTIES) + shift_N[:, None] + each_NK
    difficulty_NK[~is_sound_N, -1] += MISLABELLED_SHIFT
    return World(family_N, num_params_N, is_sound_N, difficulty_NK)


def beginner() -> Skills:
    """Skills before training."""
    return Skills(np.full(len(COMPONENT_DIFFICULTIES), START_SKILL), np.zeros(len(FAMILY_OFFSETS)))


def chances(world: World, skills: Skills) -> Floats:
    """`p_ik = sigmoid(theta_k + phi_f - d_ik)`, [N, 4], given that the earlier components hold."""
    logits_NK = skills.theta_K + skills.phi_F[world.family_N][:, None] - world.difficulty_NK
    chances_NK: Floats = 1.0 / (1.0 + np.exp(-logits_NK))
    return chances_NK


def exponents(world: World) -> Ints:
    """[N, 4]: how often each chance enters a task's success: 1, 1, 1, K; no call: 1, 0, 0, 0."""
    exponents_NK = world.active_NK.astype(np.int64)
    exponents_NK[:, -1] = world.num_params_N
    return exponents_NK


def true_success(world: World, chances_NK: Floats) -> Floats:
    """[N] chance that a rollout is right in everything: `p_f p_n p_p p_v^K`, no call `p_f`."""
    success_N: Floats = np.prod(chances_NK ** exponents(world), axis=1)
    return success_N


def mean_by_family(world: World, values_N: Floats) -> Floats:
    """[F] mean over the tasks of each family; 0 where a family has none."""
    num_families = len(FAMILY_OFFSETS)
    num_F = np.bincount(world.family_N, minlength=num_families)
    total_F = np.bincount(world.family_N, weights=values_N, minlength=num_families)
    means_F: Floats = total_F / np.maximum(num_F, 1)
    return means_F
