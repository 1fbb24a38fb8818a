"""Draws from Beta(a, b) with a, b >= 1, as a function of uniform numbers. Used by `mopps`.

Cheng's rejection algorithm BA (1978, "Generating beta variates with nonintegral shape
parameters"): two uniform numbers a try, few tries.
"""

from __future__ import annotations

import math

import numpy as np

from etude_sampler.curriculum.candidates import Chance
from etude_sampler.statistics import Floats

_EPSILON = 1e-12


def beta_draws(a_N: Floats, b_N: Floats, chance: Chance, *, first: int) -> Floats:
    """[N] draws from Beta(a, b), each in [0, 1]; every one depends on its own row alone.

    Args:
        a_N: [N] first parameters, at least 1.
        b_N: [N] second parameters, at least 1.
        chance: uniform numbers of each row.
        first: the first number to use; tries go on from there.

    Raises:
        ValueError: a parameter is below 1.
    """
    if np.any(a_N < 1.0) or np.any(b_N < 1.0):
        raise ValueError("parameters of a Beta draw must be at least 1")
    total_N = a_N + b_N
    # (a + b - 2) / (2 a b - (a + b)) -> 1 as a, b -> 1
    steep_N = np.sqrt((total_N - 2.0 + _EPSILON) / (2.0 * a_N * b_N - total_N + _EPSILON))
    gamma_N = a_N + 1.0 / steep_N
    drawn_N = np.full(len(a_N), np.nan)
    number = first
    while np.any(np.isnan(drawn_N)):
        u_N, v_N = chance(number), chance(number + 1)
        number += 2
        odds_N = steep_N * (np.log(u_N) - np.log1p(-np.minimum(u_N, 1.0 - 2.0**-53)))
        w_N = a_N * np.exp(np.minimum(odds_N, 700.0))
        limit_N = total_N * np.log(total_N / (b_N + w_N)) + gamma_N * odds_N - math.log(4.0)
        taken_N = np.isnan(drawn_N) & (limit_N >= 2.0 * np.log(u_N) + np.log(v_N))
        drawn_N = np.where(taken_N, w_N / (b_N + w_N), drawn_N)
    return drawn_N
