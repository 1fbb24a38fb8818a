"""Pools in the simulator: nobody is lost, both arms are drawn, and the best candidates are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etude_sampler.curriculum import Curriculum
from etude_sampler.leasing import Lanes
from etude_sampler.simulation import make_arm
from etude_sampler.simulation.pooling import PooledDraw, draw_pooled
from etude_sampler.statistics import TaskStatistics, empty

NUM = 200


def _stats(curriculum: Curriculum) -> TaskStatistics:
    """Everyone was seen once; task i succeeded in a share of i / (N - 1)."""
    share_N = np.linspace(0.0, 1.0, NUM)
    return replace(
        empty(NUM, 4, curriculum.shape.fresh),
        ema_N=share_N,
        n_N=np.ones(NUM, np.int64),
        abs_a_N=2.0 * np.sqrt(share_N * (1.0 - share_N)),
        last_N=np.zeros(NUM, np.int64),
    )


def _lanes(curriculum: Curriculum) -> Lanes:
    lanes = Lanes(curriculum.lanes, num_tasks=NUM, seed=4)
    lanes.enter(np.arange(NUM), np.full((NUM, 5), 1_000_000))
    return lanes


def _draw(curriculum: Curriculum, lanes: Lanes, *, batch: int = 1, num: int = 20) -> PooledDraw:
    return draw_pooled(
        curriculum,
        lanes,
        _stats(curriculum),
        shares_L=np.array([1.0, 0.0, 0.0, 0.0, 0.0]),
        num_tasks=num,
        seed=4,
        batch=batch,
        version=3,
    )


@pytest.mark.parametrize("pool", ["mopps", "plr", "pcl", "adarft"])
def test_nobody_is_lost_over_many_batches(pool: str) -> None:
    curriculum = replace(make_arm(pool).curriculum, control_share=0.25)
    lanes, num_control = _lanes(curriculum), 0
    weights_L = np.full(5, 1_000_000)
    for batch in range(20):
        drawn = _draw(curriculum, lanes, batch=batch)
        kept, back = set(drawn.kept.tasks_B.tolist()), set(drawn.back.tolist())
        assert len(kept) == 20
        assert not kept & back
        waiting = set(np.flatnonzero(lanes.races[0].weights_N).tolist())
        assert not waiting & (kept | back)
        assert len(waiting | kept | back) == NUM
        num_control += int((drawn.kept.lanes_B == 0).sum())
        assert set(drawn.kept.lanes_B.tolist()) <= {0, 5}
        assert drawn.kept.probability_B.tolist() == pytest.approx([1 / NUM] * 20)
        for tasks in (drawn.back, drawn.kept.tasks_B):
            lanes.enter(tasks, np.tile(weights_L, (len(tasks), 1)))
    assert num_control == 20 * 5


def test_a_small_world_keeps_what_there_is() -> None:
    curriculum = make_arm("pcl").curriculum
    drawn = _draw(curriculum, _lanes(curriculum), num=NUM + 7)
    assert sorted(drawn.kept.tasks_B.tolist()) == list(range(NUM))
    assert not len(drawn.back)


def test_the_best_of_the_pool_are_kept() -> None:
    """Without a value model V is the moving average of success: those near one half are kept."""
    curriculum = make_arm("pcl").curriculum
    assert curriculum.pool is not None
    drawn = _draw(curriculum, _lanes(curriculum))
    chosen = drawn.kept.tasks_B[drawn.kept.lanes_B > 0]
    share_N = np.linspace(0.0, 1.0, NUM)
    assert len(chosen) + len(drawn.back) in (79, 80), "four candidates a slot"
    assert np.abs(share_N[chosen] - 0.5).max() <= np.abs(share_N[drawn.back] - 0.5).min()


def test_the_same_seed_chooses_the_same() -> None:
    curriculum = make_arm("mopps").curriculum
    one, other = (_draw(curriculum, _lanes(curriculum)) for _ in range(2))
    assert one.kept.tasks_B.tolist() == other.kept.tasks_B.tolist()
