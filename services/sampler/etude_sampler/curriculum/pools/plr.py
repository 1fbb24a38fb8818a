"""Pool `plr`: tasks of high and of old value loss are played again (2010.03934, section 5).

The score is `2 sqrt(p (1-p))` of the last group instead of a value loss, ranks and staleness run
over the pool, beta is .3: all ours. Neighbours: `mopps`, `pcl`, `adarft`; `curriculum.candidates`
keeps the smallest values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.candidates import SHUFFLE, Candidates
from etude_sampler.curriculum.parts import Context, Pool, PoolConfig
from etude_sampler.statistics import Floats, TaskStatistics


def replay_distribution(stats: TaskStatistics, version: int, *, beta: float, rho: float) -> Floats:
    """Probability [N] of each seen task: `(1-rho) norm(rank^(-1/beta)) + rho norm(t - last)`.

    Rank 1 is the largest `2 sqrt(p (1-p))` of a last group; equal ones share the mean of what their
    ranks would get (ours). Without any staleness, `norm` gives all tasks the same.
    """
    _, group_N, size_K = np.unique(-stats.abs_a_N, return_inverse=True, return_counts=True)
    by_rank_N = np.arange(1.0, 1.0 + len(group_N)) ** (-1.0 / beta)
    end_K = np.cumsum(size_K)
    shared_K = np.add.reduceat(by_rank_N, end_K - size_K) / size_K
    age_N = (version - stats.last_N).astype(np.float64)
    score_N, stale_N = shared_K[group_N], np.maximum(age_N, 0.0)
    if not np.any(stale_N):
        stale_N = np.ones_like(stale_N)
    mixed_N: Floats = (1.0 - rho) * score_N / score_N.sum() + rho * stale_N / stale_N.sum()
    return mixed_N


@dataclass(frozen=True, slots=True)
class PlrPool:
    """A race among the candidates: the unseen with their share, the seen by `plr`."""

    factor: float
    beta: float
    rho: float
    reads: frozenset[str] = frozenset()

    def _weights(self, candidates: Candidates) -> Floats:
        """Speed [N]: 1/N each for the unseen, what is left times `plr` for the seen."""
        seen_N = candidates.stats.n_N > 0
        share_N = np.full(len(seen_N), 1.0 / max(1, len(seen_N)))
        if np.any(seen_N):
            share_N[seen_N] = np.mean(seen_N) * replay_distribution(
                candidates.stats.select(seen_N), candidates.version, beta=self.beta, rho=self.rho
            )
        return share_N

    def values(self, candidates: Candidates) -> Floats:
        """[N] arrival times: the k earliest are drawn by weight, without replacement."""
        weights_N = self._weights(candidates)
        arrivals_N: Floats = np.full(len(weights_N), np.inf)
        waits_N = -np.log(candidates.chance(SHUFFLE + 1))
        np.divide(waits_N, weights_N, out=arrivals_N, where=weights_N > 0.0)
        return arrivals_N

    def explain(self, candidates: Candidates) -> str:
        """For example `signal 0.8000 of the last group, 2 versions ago`."""
        stats = candidates.stats
        if stats.n_N[0] == 0:
            return "unseen: drawn as often as unseen tasks are in the pool"
        age = candidates.version - int(stats.last_N[0])
        return f"signal {float(stats.abs_a_N[0]):.4f} of the last group, {age} versions ago"


class PlrConfig(PoolConfig):
    """Replay by rank of the last group's signal and by staleness; unseen tasks by their share."""

    name: ClassVar[str] = "plr"
    paper: ClassVar[str] = "PLR 2010.03934; the score, beta .3 and the pool ours"
    state: ClassVar[str] = "absA, last"

    beta: float = Field(default=0.3, ge=0.05, le=10.0)
    """Temperature of the ranks; the paper's .1 is greedier."""
    rho: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of staleness against rank."""

    def build(self, context: Context) -> Pool:
        """The pool."""
        return PlrPool(self.factor, self.beta, self.rho)
