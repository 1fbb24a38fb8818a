"""Pooled draws of an arm: candidates from lane `uniform`, the best of them kept, the rest put back.

No value model runs here and no task came with a pass rate: pools that want one take what stands in
for it, the moving average of the task's own success. Neighbours: `practice` draws with it,
`curriculum.candidates` chooses as real runs do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.curriculum import Curriculum
from etude_sampler.curriculum.candidates import (
    SHUFFLE,
    Candidates,
    choose,
    num_candidates,
    num_control,
)
from etude_sampler.leasing import Drawn, Lanes, lane_key, uniforms
from etude_sampler.statistics import Floats, Ints, TaskStatistics

_POOL, _CONTROL, _SHARE = (
    lane_key(f"simulated pool: {name}") for name in ("value", "arm", "share")
)


@dataclass(frozen=True, slots=True)
class PooledDraw:
    """A batch of a pooled arm."""

    kept: Drawn
    """Control arm in lane 0; the chosen bear a lane number beyond the last race."""
    back: Ints
    """Candidates that go back into the lanes."""


def draw_pooled(
    curriculum: Curriculum,
    lanes: Lanes,
    stats: TaskStatistics,
    *,
    shares_L: Floats,
    num_tasks: int,
    seed: int,
    batch: int,
    version: int,
) -> PooledDraw:
    """Draw candidates and choose `num_tasks` of them.

    Args:
        curriculum: with a pool, at its pace.
        lanes: the arm's races; the candidates leave them.
        stats: statistics of all tasks.
        shares_L: [L] shares of the lanes.
        num_tasks: tasks to keep.
        seed: the run's seed.
        batch: number of the batch, for the size of the control arm.
        version: policy version.
    """
    pool = curriculum.pool
    assert pool is not None
    most = len(stats.n_N)
    drawn = lanes.draw(shares_L, num_candidates(num_tasks, factor=pool.factor, most=most))
    tasks_N = drawn.tasks_B
    entries_N = lanes.entries_N[tasks_N] - 1
    unknown_N = np.full(len(tasks_N), np.nan)

    def chance(key: int, number: int) -> Floats:
        return uniforms(seed, ordinals_N=tasks_N, entries_N=entries_N, key=key, number=number)

    found = Candidates(
        stats=stats.select(tasks_N),
        prediction_N=unknown_N,
        pass_rate_N=unknown_N,
        version=version,
        chance=lambda number: chance(_POOL, number),
    )
    num_kept = min(num_tasks, len(tasks_N))
    one = np.array([batch])
    share = uniforms(seed, ordinals_N=one, entries_N=np.zeros_like(one), key=_SHARE)
    control_N, chosen_N = choose(
        pool.values(found),
        num_kept=num_kept,
        num_control=num_control(num_kept, share=curriculum.control_share, chance=float(share[0])),
        shuffle_N=found.chance(SHUFFLE),
        control_N=chance(_CONTROL, 1),
    )
    kept = np.flatnonzero(control_N | chosen_N)
    return PooledDraw(
        kept=Drawn(
            tasks_B=tasks_N[kept],
            lanes_B=np.where(chosen_N[kept], len(curriculum.lanes), 0),
            probability_B=drawn.probability_B[kept],
            num_waiting=drawn.num_waiting,
        ),
        back=tasks_N[~(control_N | chosen_N)],
    )
