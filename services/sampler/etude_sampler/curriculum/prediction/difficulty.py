"""What the visits of a task say of its difficulty (our choice).

A task's heads have log odds `offset_h + e + v_h`: the ability for a task of its features, what
the task has in common in all heads, and what each head has of its own; e and v_h are normal around
0. Newton steps to the mode and the curvature there (Laplace). Elementwise and in a fixed order: a
row depends on no other row. Neighbours: `ability` gives the offsets, `model` calls it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Floats

NEWTON_STEPS = 4
LONGEST_STEP = 2.0
"""No Newton step moves log odds by more."""


@dataclass(frozen=True, slots=True)
class Spreads:
    """Prior variances of a task's difficulty, in log odds squared."""

    shared: float
    own: float


def sigmoid(logit: Floats) -> Floats:
    """`1 / (1 + exp(-x))`, any shape; never overflows."""
    chance: Floats = 1.0 / (1.0 + np.exp(-np.clip(logit, -40.0, 40.0)))
    return chance


def moderated(logit: Floats, variance: Floats) -> Floats:
    """Mean of a sigmoid under a normal belief: `sigmoid(x / sqrt(1 + pi v / 8))` (MacKay)."""
    return sigmoid(logit / np.sqrt(1.0 + np.pi / 8.0 * variance))


def ease(
    offset_NH: Floats, trials_NH: Floats, held_NH: Floats, *, spreads: Spreads
) -> tuple[Floats, Floats]:
    """How much easier than its features say each head of a task is.

    Args:
        offset_NH: log odds by ability alone, at the time of the visits.
        trials_NH: rollouts that tried the head; 0: none, or inactive.
        held_NH: those in which it held.
        spreads: prior variances.

    Returns:
        Mean and variance [N, H] of `e + v_h`.
    """
    shared_N, own_NH = np.zeros(len(offset_NH)), np.zeros_like(offset_NH)
    for _ in range(NEWTON_STEPS):
        chance_NH = sigmoid(offset_NH + shared_N[:, None] + own_NH)
        slope_NH = held_NH - trials_NH * chance_NH
        bend_NH = trials_NH * chance_NH * (1.0 - chance_NH)
        curve_NH = bend_NH + 1.0 / spreads.own
        pull_NH = slope_NH - own_NH / spreads.own
        top_N = _sum(slope_NH - bend_NH / curve_NH * pull_NH) - shared_N / spreads.shared
        step_N = _bounded(top_N / _schur(bend_NH, curve_NH, spreads))
        own_NH = own_NH + _bounded((pull_NH - bend_NH * step_N[:, None]) / curve_NH)
        shared_N = shared_N + step_N
    chance_NH = sigmoid(offset_NH + shared_N[:, None] + own_NH)
    bend_NH = trials_NH * chance_NH * (1.0 - chance_NH)
    curve_NH = bend_NH + 1.0 / spreads.own
    along_NH = 1.0 / (spreads.own * curve_NH)
    schur_N = _schur(bend_NH, curve_NH, spreads)
    return (
        shared_N[:, None] + own_NH,
        1.0 / curve_NH + along_NH * along_NH / schur_N[:, None],
    )


def _schur(bend_NH: Floats, curve_NH: Floats, spreads: Spreads) -> Floats:
    """[N] curvature along e once every v_h has answered."""
    return 1.0 / spreads.shared + _sum(bend_NH - bend_NH * bend_NH / curve_NH)


def _bounded(step: Floats) -> Floats:
    return np.clip(step, -LONGEST_STEP, LONGEST_STEP)


def _sum(values_NH: Floats) -> Floats:
    """[N] sums, head after head."""
    total_N = np.zeros(len(values_NH))
    for head in range(values_NH.shape[1]):
        total_N = total_N + values_NH[:, head]
    return total_N
