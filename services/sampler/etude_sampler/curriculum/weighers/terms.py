"""The terms of a reward-based weight: learning value, staleness, rehearsal (algorithms.md 3.2).

Follows the published idea of DSCL (2509.14718: mean and variance of multi-dimensional rewards
prioritise data); the formulas and every constant are our choice. Neighbours: `rds` applies them to
each component, `rds_scalar` to the reward.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.parts import WeigherConfig
from etude_sampler.statistics import Floats, Ints, TaskStatistics

STALE_LEVELS = 4
"""Staleness rises in this many steps, so that few weights change between reports."""


class RdsKnobs(WeigherConfig):
    """Constants shared by the reward-based weighers."""

    eps: float = Field(default=0.02, gt=0.0, le=1.0)
    """Floor of the learning value: nothing is ever dropped."""
    c_st: float = Field(default=0.10, ge=0.0, le=1.0)
    """Largest bonus for tasks not visited for long."""
    t_st: int = Field(default=14, ge=1, le=100_000)
    """Age in policy versions at which the bonus is complete."""
    mast: float = Field(default=0.1, gt=0.0, le=1.0)
    """Factor for mastered tasks: they are rehearsed, never dropped."""
    mast_visits: int = Field(default=2, ge=1, le=1_000)
    """Visits in a row with every component right that make a task mastered."""


def learning_value(mean: Floats, variance: Floats) -> Floats:
    """`u = sqrt(min(1, 4 v) (1 - m))`: variance is signal, 1 - m is headroom; any shape."""
    value: Floats = np.sqrt(np.minimum(1.0, 4.0 * variance) * np.clip(1.0 - mean, 0.0, 1.0))
    return value


def stale_levels(age_N: Ints, t_st: int) -> Ints:
    """`floor(4 min(1, age / t_st))`, in exact integer arithmetic; negative ages count as 0."""
    levels_N: Ints = np.minimum(STALE_LEVELS, STALE_LEVELS * np.maximum(age_N, 0) // t_st)
    return levels_N


def refresh_ages(knobs: RdsKnobs) -> tuple[int, ...]:
    """Ages at which the staleness bonus rises; none without a bonus."""
    if knobs.c_st == 0.0:
        return ()
    ages = (-(-level * knobs.t_st // STALE_LEVELS) for level in range(1, STALE_LEVELS + 1))
    return tuple(dict.fromkeys(ages))


def seen_weights(
    value_NK: Floats, stats: TaskStatistics, *, version: int, knobs: RdsKnobs
) -> Floats:
    """`(eps + u + c_st stale) (mast if full >= mast_visits else 1)` of seen tasks, [N, K]."""
    stale_N = knobs.c_st * (stale_levels(version - stats.last_N, knobs.t_st) / STALE_LEVELS)
    factor_N = np.where(stats.full_N >= knobs.mast_visits, knobs.mast, 1.0)
    return ((knobs.eps + value_NK) + stale_N[:, None]) * factor_N[:, None]


def explain(
    mean: float, variance: float, *, stats_row: TaskStatistics, version: int, knobs: RdsKnobs
) -> str:
    """The weight of one task as a sum that a person can check; nan mean: unseen."""
    if math.isnan(mean):
        return "unseen: 1 = 1.0000"
    value = learning_value(np.array([[mean]]), np.array([[variance]]))
    total = seen_weights(value, stats_row, version=version, knobs=knobs)[0, 0]
    level = int(stale_levels(version - stats_row.last_N, knobs.t_st)[0])
    terms = (
        f"eps {knobs.eps:g} + u {value[0, 0]:.4f} "
        f"(4v {min(1.0, 4.0 * variance):.3f} x headroom {min(1.0, max(0.0, 1.0 - mean)):.4f}) "
        f"+ staleness {knobs.c_st * level / STALE_LEVELS:.3f}"
    )
    if int(stats_row.full_N[0]) >= knobs.mast_visits:
        terms = f"({terms}) x mastered {knobs.mast:g}"
    return f"{terms} = {total:.4f}"
