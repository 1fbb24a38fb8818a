"""The policy's ability: log odds of each head as a linear function of a task's inputs (ours).

One belief a head and input, normal and independent of the others (a diagonal Kalman filter), which
widens with every policy version and is moved by every group. Of the past it keeps a few means, so
that old visits are compared with what the policy could do then. It is a run's pace: JSON, rounded,
so that another machine's last bit changes nothing. Neighbours: `design` makes the inputs, `model`
feeds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from etude_sampler.statistics import Floats

from .difficulty import LONGEST_STEP, moderated

MAX_PAST = 12
"""Past means that are kept; when there are more, every second one goes."""
DIGITS = 10
"""Decimals of the numbers kept."""
NOISE_FLOOR = 1e-4
"""Least variance of a group's share."""
WIDEST = 4.0
"""No belief grows wider than this many times its start, however long nothing was seen of it."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How unsure the regression is."""

    start: float = 1.0
    """Variance of every slope at the start."""
    step: float = 0.003
    """What a version adds to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One group's heads: J groups in apply order."""

    inputs_JD: Floats
    ease_JH: Floats
    """What was known of the task's own ease before the group, and its variance."""
    variance_JH: Floats
    trials_JH: Floats
    """Rollouts that tried the head."""
    share_JH: Floats
    """Share of them in which it held; not read without trials."""


@dataclass(frozen=True, slots=True, eq=False)
class Ability:
    """Belief [H, D] after `version`, and means [P, H, D] of the versions `past_P`."""

    version: int
    mean_HD: Floats
    variance_HD: Floats
    stride: int
    """Versions between two kept means."""
    past_P: Floats
    mean_PHD: Floats

    @classmethod
    def start(cls, num_heads: int, num_inputs: int, drift: Drift) -> Ability:
        """Even odds, and nothing known."""
        zero_HD = np.zeros((num_heads, num_inputs))
        return cls(0, zero_HD, zero_HD + drift.start, 1, np.zeros(1), zero_HD[None])

    def now(self, inputs_ND: Floats) -> Floats:
        """[N, H] log odds of an ordinary task at these inputs."""
        total_NH = np.zeros((len(inputs_ND), len(self.mean_HD)))
        for d in range(inputs_ND.shape[1]):
            total_NH = total_NH + self.mean_HD[:, d] * inputs_ND[:, d : d + 1]
        return total_NH

    def at(self, version_N: Floats, inputs_ND: Floats) -> Floats:
        """[N, H] log odds as they were at these (fractional) versions, interpolated."""
        times_T = np.append(self.past_P, float(self.version))
        means_THD = np.concatenate([self.mean_PHD, self.mean_HD[None]])
        right_N = np.clip(np.searchsorted(times_T, version_N), 1, len(times_T) - 1)
        gap_N = np.maximum(times_T[right_N] - times_T[right_N - 1], 1.0)
        part_N1 = np.clip((version_N - times_T[right_N - 1]) / gap_N, 0.0, 1.0)[:, None]
        total_NH = np.zeros((len(inputs_ND), len(self.mean_HD)))
        for d in range(inputs_ND.shape[1]):
            old_NH, new_NH = means_THD[right_N - 1, :, d], means_THD[right_N, :, d]
            between_NH = (1.0 - part_N1) * old_NH + part_N1 * new_NH
            total_NH = total_NH + between_NH * inputs_ND[:, d : d + 1]
        return total_NH

    def moved(self, observed: Observed, version: int, drift: Drift) -> Ability:
        """The belief after the groups of one version."""
        mean_HD = self.mean_HD
        variance_HD: Floats = np.minimum(self.variance_HD + drift.step, WIDEST * drift.start)
        for j in range(len(observed.inputs_JD)):
            mean_HD, variance_HD = _update(mean_HD, variance_HD, observed, j)
        mean_HD, variance_HD = np.round(mean_HD, DIGITS), np.round(variance_HD, DIGITS)
        moved = replace(self, version=version, mean_HD=mean_HD, variance_HD=variance_HD)
        return moved if version % self.stride else moved._remember()

    def _remember(self) -> Ability:
        """Keep today's mean; thin the past if it grows too long."""
        past_P = np.append(self.past_P, float(self.version))
        mean_PHD = np.concatenate([self.mean_PHD, self.mean_HD[None]])
        stride = self.stride
        if len(past_P) > MAX_PAST:
            stride *= 2
            keep_P = past_P % stride == 0
            past_P, mean_PHD = past_P[keep_P], mean_PHD[keep_P]
        return replace(self, stride=stride, past_P=past_P, mean_PHD=mean_PHD)

    def to_json(self) -> JsonValue:
        """As JSON; every number keeps its bits."""
        return {
            "version": self.version,
            "mean": self.mean_HD.tolist(),
            "variance": self.variance_HD.tolist(),
            "stride": self.stride,
            "past": self.past_P.tolist(),
            "past_means": self.mean_PHD.tolist(),
        }

    @classmethod
    def from_json(cls, data: JsonValue) -> Ability:
        """What `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(data, dict):
            raise ValueError("an ability is kept as an object")
        return cls(
            version=int(np.array(data["version"], dtype=np.int64)),
            mean_HD=np.array(data["mean"], dtype=np.float64),
            variance_HD=np.array(data["variance"], dtype=np.float64),
            stride=int(np.array(data["stride"], dtype=np.int64)),
            past_P=np.array(data["past"], dtype=np.float64),
            mean_PHD=np.array(data["past_means"], dtype=np.float64),
        )


def _update(
    mean_HD: Floats, variance_HD: Floats, observed: Observed, j: int
) -> tuple[Floats, Floats]:
    """Group j folded into the belief: a Kalman step on the share, its slope taken at the mean.

    No group moves its own log odds by more than the difficulty's longest step: far from the truth
    the slope is that of a flat stretch, and would overshoot.
    """
    x_D, trials_H = observed.inputs_JD[j], observed.trials_JH[j]
    doubt_H = observed.variance_JH[j]
    logit_H = _across(mean_HD * x_D) + observed.ease_JH[j]
    chance_H = moderated(logit_H, doubt_H)
    spread_H = chance_H * (1.0 - chance_H)
    slope_H = spread_H / np.sqrt(1.0 + np.pi / 8.0 * doubt_H)
    tried_H = np.maximum(trials_H, 1e-9)
    noise_H = spread_H / tried_H + doubt_H * slope_H * slope_H
    swing_HD = variance_HD * (slope_H[:, None] * x_D)
    total_H = np.maximum(noise_H, NOISE_FLOOR) + slope_H * _across(swing_HD * x_D)
    gain_HD = swing_HD / total_H[:, None]
    told_H = trials_H > 0.0
    surprise_H = np.where(told_H, observed.share_JH[j] - chance_H, 0.0)
    leap_H = np.abs(_across(gain_HD * x_D) * surprise_H)
    surprise_H = surprise_H * (LONGEST_STEP / np.maximum(leap_H, LONGEST_STEP))
    shrunk_HD = variance_HD * (1.0 - gain_HD * (slope_H[:, None] * x_D))
    return (
        mean_HD + gain_HD * surprise_H[:, None],
        np.where(told_H[:, None], shrunk_HD, variance_HD),
    )


def _across(values_HD: Floats) -> Floats:
    """[H] sums over the inputs in order."""
    total_H = np.zeros(len(values_HD))
    for d in range(values_HD.shape[1]):
        total_H = total_H + values_HD[:, d]
    return total_H
