"""Weigher `greso`: tasks all right or all wrong lately run slower (2506.02177, section 5).

The paper keeps such a task before its rollout with a probability that falls with the streak. By
thinning (algorithms.md 1.2, L7) that equals a weight, so nothing is drawn and thrown away. The two
bases move with every version towards a share of such groups; weights of waiting tasks follow at
`refresh_ages` only (our choice). Neighbour: `curriculum.pace` moves the bases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field, JsonValue

from etude_sampler.curriculum.parts import Context, Weigher, WeigherConfig
from etude_sampler.curriculum.state import FoldInput
from etude_sampler.statistics import Bools, Floats, TaskStatistics

REFRESH_AGES = (10, 30, 100, 300)


def refill_tasks(remaining_rollouts: int, *, zero_share: float, group_size: int) -> int:
    """How many tasks to draw for what a training batch still lacks, as in GRESO.

    `min(384, max(64, int(1.25 remaining / (1 - zero share) / G)))`. A rule for clients that refill:
    a run's own refill follows its limits (`refill_over_draw`, `refill_rounds`).

    Raises:
        ValueError: every group was dropped (`zero_share` is 1): no number would fill the batch.
    """
    if not 0.0 <= zero_share < 1.0:
        raise ValueError("zero_share must be in [0, 1)")
    wanted = int(1.25 * remaining_rollouts / (1.0 - zero_share) / group_size)
    return min(384, max(64, wanted))


@dataclass(frozen=True, slots=True)
class GresoWeigher:
    """Keep probabilities at one pair of bases."""

    knobs: GresoConfig
    easy: float
    """Base for tasks that were all right."""
    hard: float
    """Base for tasks that were all wrong."""
    refresh_ages: tuple[int, ...] = REFRESH_AGES

    def start(self) -> JsonValue:
        """Both bases as the knob says."""
        return [self.knobs.start, self.knobs.start]

    def advance(self, pace: JsonValue, folded: FoldInput) -> JsonValue:
        """Each base falls while its share of groups is too large, and rises else."""
        if not len(folded.num_valid_N):
            return pace
        now, knobs = self.at(pace), self.knobs
        easy_share = float(np.mean(folded.num_success_N == folded.num_valid_N))
        hard_share = float(np.mean(folded.num_success_N == 0))
        return [
            self._moved(now.easy, easy_share >= knobs.easy_target),
            self._moved(now.hard, hard_share >= knobs.hard_target),
        ]

    def at(self, pace: JsonValue) -> GresoWeigher:
        """The weigher with these bases.

        Raises:
            ValueError: no pair of numbers.
        """
        match pace:
            case [int() | float() as easy, int() | float() as hard]:
                return replace(self, easy=float(easy), hard=float(hard))
        raise ValueError(f"the pace of greso is a pair of numbers, not {pace!r}")

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]: the keep probability where active."""
        return np.where(active_NK, self._keep(stats)[:, None], 0.0)

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """For example `keep 0.5^2, all right 2 times in a row = 0.2500`."""
        weight = float(self._keep(stats_row)[0])
        easy, hard = int(stats_row.z_easy_N[0]), int(stats_row.z_hard_N[0])
        if easy:
            return f"keep {self.easy:g}^{easy}, all right {easy} times in a row = {weight:.4f}"
        if hard:
            return f"keep {self.hard:g}^{hard}, all wrong {hard} times in a row = {weight:.4f}"
        return f"keep 1, no streak = {weight:.4f}"

    def _keep(self, stats: TaskStatistics) -> Floats:
        """[N] `max(p^z, floor)`; a task is in one streak at most."""
        power_N = self.easy**stats.z_easy_N * self.hard**stats.z_hard_N
        return np.maximum(power_N, self.knobs.floor)

    def _moved(self, base: float, too_many: bool) -> float:
        step = -self.knobs.step if too_many else self.knobs.step
        return min(self.knobs.high, max(self.knobs.low, base + step))


class GresoConfig(WeigherConfig):
    """Weight by the chance to keep a task: base^streak of groups all right, or all wrong."""

    name: ClassVar[str] = "greso"
    paper: ClassVar[str] = "GRESO 2506.02177; as a weight (thinning) ours"
    state: ClassVar[str] = "z_easy, z_hard; two bases of the run"

    start: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Both bases before the first version."""
    step: float = Field(default=0.01, gt=0.0, le=1.0)
    """How far a base moves in one policy version."""
    easy_target: float = Field(default=0.25 / 3.0, gt=0.0, le=1.0)
    """Share of all-right groups from which on their base falls."""
    hard_target: float = Field(default=0.5 / 3.0, gt=0.0, le=1.0)
    """Share of all-wrong groups from which on their base falls."""
    low: float = Field(default=0.05, gt=0.0, le=1.0)
    """Smallest base."""
    high: float = Field(default=0.95, gt=0.0, lt=1.0)
    """Largest base."""
    floor: float = Field(default=0.01, gt=0.0, le=1.0)
    """Smallest keep probability: nothing is ever dropped."""

    def build(self, context: Context) -> Weigher:
        """The weigher before the first version."""
        return GresoWeigher(self, self.start, self.start)
