"""Weigher `arcus`: a belief of each task's success on the arcsine scale (section 5).

The belief N(mu, P) of `arcsin sqrt p` and the weight are the paper's; the prediction step (drift 0,
P grows with every policy version) and the floor are our choice. P also grows while a task waits:
its weight follows at `refresh_ages` only (our choice). Neighbour: `mixed_group`, the same question
with a Beta belief.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.parts import Context, Weigher
from etude_sampler.statistics import Bools, Floats, GroupSummary, Ints, Note, TaskStatistics

from .group_sized import GroupSizedConfig

NOTE = "arcus"
START_MEAN, START_VARIANCE = math.pi / 4.0, math.pi**2 / 48.0
"""The belief before the first group: flat in `arcsin sqrt p` has this mean and variance."""
_MIDDLE = math.pi / 4.0
_SPREAD = math.sin(_MIDDLE) / math.sqrt(2.0)
REFRESH_AGES = (10, 30, 100, 300)


@dataclass(frozen=True, slots=True)
class BeliefFold:
    """One group observed: Kalman's step on the arcsine scale."""

    drift: float
    """Growth of P per policy version."""

    def __call__(
        self, x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints
    ) -> Floats:
        """[N, 2] mean and variance after the groups."""
        mean_N, variance_N = x_NW[:, 0], aged(x_NW[:, 1], before, version_N, drift=self.drift)
        won_N = summary.root_share_N * summary.num_success_N
        num_N = summary.root_share_N * summary.num_valid_N
        mixed_N = (won_N > 0) & (won_N < num_N)
        seen_N = np.where(
            mixed_N,
            np.arcsin(np.sqrt((won_N + 0.375) / (num_N + 0.75))),
            np.where(won_N == 0, 0.0, math.pi / 2.0),
        )
        noise_N = np.where(mixed_N, 1.0 / (4.0 * num_N + 2.0), 1.0 / (2.0 * num_N))
        gain_N = variance_N / (variance_N + noise_N)
        return np.stack([mean_N + gain_N * (seen_N - mean_N), variance_N * (1.0 - gain_N)], axis=1)


def aged(
    variance_N: Floats, stats: TaskStatistics, version_N: Ints | int, *, drift: float
) -> Floats:
    """P after the versions since each task's last group; a task never seen keeps its own."""
    elapsed_N = np.where(stats.n_N > 0, np.maximum(version_N - stats.last_N, 0), 0)
    return variance_N + drift * elapsed_N


def value(mean_N: Floats, variance_N: Floats, *, group_size: int) -> Floats:
    """`kappa y`: closeness to even odds times the chance of a mixed group, in [0, 1]."""
    spread = _SPREAD**2
    scale_N = np.sqrt(spread / (spread + variance_N))
    kappa_N = scale_N * np.exp(-((mean_N - _MIDDLE) ** 2) / (2.0 * (spread + variance_N)))
    c_N = 1.0 + 2.0 * group_size * variance_N
    wrong_N = np.exp(-group_size * mean_N**2 / c_N)
    right_N = np.exp(-group_size * (math.pi / 2.0 - mean_N) ** 2 / c_N)
    y_N = 1.0 - (wrong_N + right_N) / np.sqrt(c_N)
    return np.clip(kappa_N * y_N, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ArcusWeigher:
    """The value sharpened; the same in all lanes of a task."""

    knobs: ArcusConfig
    belief: slice
    """Columns of the note."""
    refresh_ages: tuple[int, ...] = REFRESH_AGES

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]: `(kappa y)^(1 / temperature)`, at least the floor."""
        mean_N, variance_N = self._belief(stats, version)
        value_N = value(mean_N, variance_N, group_size=self.knobs.size)
        weight_N = np.maximum(value_N ** (1.0 / self.knobs.temperature), self.knobs.floor)
        return np.where(active_NK, weight_N[:, None], 0.0)

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """For example `(kappa y 0.9036)^(1/0.3), belief 0.785 +- 0.160 = 0.7134`."""
        mean_N, variance_N = self._belief(stats_row, version)
        found = value(mean_N, variance_N, group_size=self.knobs.size)[0]
        weight = max(found ** (1.0 / self.knobs.temperature), self.knobs.floor)
        return (
            f"(kappa y {found:.4f})^(1/{self.knobs.temperature:g}), belief {mean_N[0]:.3f} +- "
            f"{math.sqrt(variance_N[0]):.3f} = {weight:.4f}"
        )

    def _belief(self, stats: TaskStatistics, version: int) -> tuple[Floats, Floats]:
        """Mean and variance now."""
        held_N2 = stats.x_NE[:, self.belief]
        return held_N2[:, 0], aged(held_N2[:, 1], stats, version, drift=self.knobs.drift)


class ArcusConfig(GroupSizedConfig):
    """Weight by closeness to even odds times the chance of a mixed group, by an arcsine belief."""

    name: ClassVar[str] = "arcus"
    paper: ClassVar[str] = "ARCUS; prediction step and floor ours"
    state: ClassVar[str] = "note arcus (mean, variance), last"

    drift: float = Field(default=1e-4, ge=0.0, le=1.0)
    """Growth of the belief's variance per policy version (our choice)."""
    temperature: float = Field(default=0.3, gt=0.0, le=100.0)
    """The smaller, the more the best tasks are preferred."""
    floor: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Smallest weight: nothing is ever dropped (our choice)."""

    def remembers(self, context: Context) -> tuple[Note, ...]:
        """The belief."""
        return (Note(NOTE, (START_MEAN, START_VARIANCE), BeliefFold(self.drift)),)

    def build(self, context: Context) -> Weigher:
        """The weigher."""
        return ArcusWeigher(self, context.notes[NOTE])
