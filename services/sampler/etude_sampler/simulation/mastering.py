"""Estimates of mastery beside the truth, version by version (our choice).

Neighbours: `practice` adds a version, `metrics` says how far off the estimates were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from etude_sampler.curriculum import AllocatorState
from etude_sampler.statistics import Floats

from .rollout import scored
from .world import World

WARM_UP = 20
"""Versions whose estimates are not judged: few tasks were seen."""
CLOSE = 0.02
"""An estimate within this of the truth is close."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """After each of V versions; nan where unknown."""

    held_VK: Floats
    """Truth: expected score of each component over the tasks that have it."""
    now_VK: Floats
    """Mastery as it is now."""
    ema_VK: Floats
    """M of section 3.4."""


@dataclass(slots=True)
class MasteryLog:
    """Collects them."""

    world: World
    is_known: bool
    """Whether the lanes' mastery is that of components."""
    _rows: list[Sequence[Floats]] = field(default_factory=list)

    def truth(self, chances_NK: Floats) -> Floats:
        """[K] what mastery estimates."""
        held_NK: Floats = np.cumprod(chances_NK, axis=1, dtype=np.float64)
        held_K: Floats = np.mean(scored(held_NK), axis=0, where=self.world.active_NK)
        return held_K

    def now(self, state: AllocatorState) -> Floats:
        """[K] mastery as it is now; nan: unknown, or of other lanes."""
        if not self.is_known:
            return np.full(self.world.active_NK.shape[1], np.nan)
        return np.array([np.nan if one is None else one.now for one in state.trend_K])

    def add(self, chances_NK: Floats, state: AllocatorState) -> None:
        """One version."""
        now_K = self.now(state)
        ema_K = np.array(state.M_K) if self.is_known else now_K
        self._rows.append((self.truth(chances_NK), now_K, ema_K))

    def estimates(self) -> Estimates | None:
        """All versions; None without any."""
        if not self._rows:
            return None
        rows_V3K = np.array(self._rows)
        return Estimates(rows_V3K[:, 0], rows_V3K[:, 1], rows_V3K[:, 2])


def errors(found: Estimates | None) -> dict[str, float | None]:
    """How far off the estimates were after the warm-up.

    `mastery_rms` and `mastery_bias` are those of the worst component: root mean square and mean
    error over versions; `mastery_within` is the share of versions and components within 0.02;
    `ema_rms` is the first for M.
    """
    names = ("mastery_rms", "mastery_bias", "mastery_within", "ema_rms")
    if found is None or len(found.held_VK) <= WARM_UP or np.isnan(found.now_VK[WARM_UP:]).any():
        return dict.fromkeys(names)
    now_VK = (found.now_VK - found.held_VK)[WARM_UP:]
    ema_VK = (found.ema_VK - found.held_VK)[WARM_UP:]
    values = (
        _largest(np.sqrt(np.mean(np.square(now_VK), axis=0))),
        _largest(np.abs(np.mean(now_VK, axis=0))),
        float(np.mean(np.abs(now_VK) <= CLOSE)),
        _largest(np.sqrt(np.mean(np.square(ema_VK), axis=0))),
    )
    return dict(zip(names, values, strict=True))


def _largest(values_K: Floats) -> float:
    return float(values_K.max())
