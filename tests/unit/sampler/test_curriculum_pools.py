"""Pools: section 5's examples, every reachable state, and the choice among candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pydantic import JsonValue
from scipy.stats import beta as beta_law
from scipy.stats import kstest

from etude_sampler.curriculum import (
    FoldInput,
    at_pace,
    fold_state,
    start_state,
)
from etude_sampler.curriculum.candidates import (
    choose,
)
from etude_sampler.curriculum.pools.beta import beta_draws
from etude_sampler.curriculum.pools.plr import replay_distribution
from etude_sampler.statistics import (
    EstimatorConstants,
    Floats,
    TaskStatistics,
    empty,
    fold,
)
from support.pools import candidates_of, chance_of, groups_of, pool_of, pooled


def _kept(values_N: Floats, num: int) -> list[int]:
    shuffle_N = chance_of(len(values_N))(1)
    _, chosen_N = choose(
        values_N, num_kept=num, num_control=0, shuffle_N=shuffle_N, control_N=shuffle_N
    )
    return np.flatnonzero(chosen_N).tolist()


@pytest.mark.parametrize(("lam", "after"), [(0.5, [(7, 3), (6, 8)]), (1.0, [(7, 3), (9, 9)])])
def test_mopps_belief(lam: float, after: list[tuple[float, float]]) -> None:
    curriculum = pooled("mopps", lam=lam)
    stats = empty(1, 4, curriculum.shape.fresh)
    assert stats.x_NE.tolist() == [[1.0, 1.0]]
    for won, want in zip((6, 2), after, strict=True):
        stats = fold(
            stats,
            groups_of([won]),
            version_N=np.array([0]),
            constants=EstimatorConstants(),
            notes=curriculum.notes,
        )
        assert stats.x_NE.tolist() == [list(want)]


def test_mopps_keeps_what_may_well_be_one_half() -> None:
    """Sure beliefs near 0, 1/2 and 1; the one in the middle stays, the others never do."""
    curriculum = pooled("mopps")
    stats = replace(
        empty(3, 4, curriculum.shape.fresh),
        x_NE=np.array([[10.0, 990.0], [500.0, 500.0], [990.0, 10.0]]),
    )
    assert curriculum.pool is not None
    found = candidates_of(stats)
    assert _kept(curriculum.pool.values(found), 1) == [1]
    assert curriculum.pool.explain(found) == "belief Beta(10, 990), mean 0.0100"


@pytest.mark.parametrize(
    ("a", "b"), [(1.0, 1.0), (7.0, 3.0), (1.0, 9.0), (40.0, 1.0), (1.5, 1.2), (300.0, 200.0)]
)
def test_beta_draws_follow_the_law(a: float, b: float) -> None:
    num = 4000
    drawn_N = beta_draws(np.full(num, a), np.full(num, b), chance_of(num), first=2)
    assert kstest(drawn_N, beta_law(a, b).cdf).pvalue > 0.01


def test_a_beta_draw_depends_on_its_row_alone() -> None:
    chance = chance_of(6)
    a_N, b_N = np.array([1.0, 7.0, 3.0, 40.0, 1.0, 2.0]), np.array([1.0, 3.0, 9.0, 1.0, 50.0, 2.0])
    together = beta_draws(a_N, b_N, chance, first=2)
    for i in range(6):

        def mine(number: int, row: int = i) -> Floats:
            return chance(number)[[row]]

        alone = beta_draws(a_N[[i]], b_N[[i]], mine, first=2)
        assert alone.tolist() == together[[i]].tolist()


def test_beta_draws_refuse_small_parameters() -> None:
    for a, b in ((0.9, 2.0), (2.0, 0.0)):
        with pytest.raises(ValueError, match="at least 1"):
            beta_draws(np.array([a]), np.array([b]), chance_of(1), first=2)


def _last_groups(abs_a: Sequence[float], last: Sequence[int]) -> TaskStatistics:
    return replace(
        empty(len(last), 4),
        abs_a_N=np.array(abs_a),
        last_N=np.array(last),
        n_N=np.array([1 if at >= 0 else 0 for at in last]),
    )


def test_plr() -> None:
    stats = _last_groups([0.8, 0.2, 0.5, 0.0], [8, 4, 9, 0])
    found = replay_distribution(stats, 10, beta=0.3, rho=0.1)
    assert found.tolist() == pytest.approx([0.8037, 0.0519, 0.0840, 0.0604], abs=5e-5)
    assert replay_distribution(stats, 10, beta=0.1, rho=0.1)[0] == pytest.approx(0.9096, abs=5e-5)


def test_plr_shares_between_equals() -> None:
    """Equal signal and equal age: equal probability, whatever the order of the tasks."""
    stats = _last_groups([0.5, 0.9, 0.5, 0.5], [3, 3, 3, 3])
    first, best, *rest = replay_distribution(stats, 3, beta=0.3, rho=0.1).tolist()
    assert rest == pytest.approx([first, first])
    assert best > first


def test_plr_serves_the_unseen_by_their_share() -> None:
    """3 of 4 unseen: an unseen task takes a single place in about 3 of 4 pools."""
    stats = _last_groups([0.9, 0.0, 0.0, 0.0], [0, -1, -1, -1])
    pool, num = pool_of("plr"), 800
    unseen = 0
    for seed in range(num):
        found = replace(candidates_of(stats, version=4), chance=chance_of(4, seed=seed))
        unseen += _kept(pool.values(found), 1) != [0]
    assert unseen / num == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / num) ** 0.5)
    found = candidates_of(stats, version=4)
    assert pool.explain(found) == "signal 0.9000 of the last group, 4 versions ago"
    alone = replace(found, stats=stats.select(slice(1, 2)))
    assert pool.explain(alone).startswith("unseen")


def test_pcl() -> None:
    found = candidates_of(empty(4, 4), prediction=[0.1, 0.45, 0.8, 0.56])
    pool = pool_of("pcl")
    assert _kept(pool.values(found), 2) == [1, 3]
    assert pool.explain(found) == "V 0.1000, 0.4000 from 0.5"


def test_pcl_without_predictions_goes_by_the_task_itself() -> None:
    """Seen: its moving average; unseen: one half, so it comes first."""
    stats = replace(empty(3, 4), n_N=np.array([2, 0, 1]), ema_N=np.array([0.3, 0.0, 0.9]))
    values_N = pool_of("pcl").values(candidates_of(stats, prediction=[np.nan, np.nan, 0.6]))
    assert values_N.tolist() == pytest.approx([0.2, 0.0, 0.1])


def _version(success: float) -> FoldInput:
    """One version of ten rollouts that the pool chose, and ten of the control arm, all wrong."""
    blank = np.full((2, 4), np.nan)
    return FoldInput(
        mean_NK=blank,
        prev_NK=blank,
        new_NK=blank,
        first_NK=np.zeros((2, 4), dtype=np.bool_),
        iota_N=np.ones(2),
        is_control_N=np.array([False, True]),
        num_acked_batches=1,
        num_valid_N=np.array([10, 10]),
        num_success_N=np.array([round(10 * success), 0]),
    )


def test_adarft_target() -> None:
    curriculum = pooled("adarft")
    state = start_state(curriculum)
    assert state.pace["pool"] == 0.0
    targets = []
    for success in (0.9, 0.9, 0.6, 0.4):
        state = fold_state(curriculum, state, _version(success))
        targets.append(state.pace["pool"])
    assert targets == pytest.approx([33.202, 66.404, 76.272, 66.404], abs=5e-4)
    nothing = replace(_version(0.5), num_valid_N=np.array([0, 10]))
    assert fold_state(curriculum, state, nothing).pace == state.pace
    pool = at_pace(curriculum, state.pace).pool
    assert pool is not None
    found = candidates_of(
        replace(empty(4, 4), n_N=np.array([1, 1, 1, 0]), ema_N=np.full(4, 0.8)),
        pass_rate=[0.9, 0.3, np.nan, np.nan],
        prediction=[0.0, 0.0, 0.6, np.nan],
    )
    assert pool.values(found).tolist() == pytest.approx([56.404, 3.596, 26.404, 16.404], abs=5e-4)
    assert pool.explain(found) == "difficulty 10.0, target 66.4"


@pytest.mark.parametrize("pace", [None, True, "33"])
def test_adarft_refuses_a_target_that_is_no_number(pace: JsonValue) -> None:
    with pytest.raises(ValueError, match="is a number"):
        at_pace(pooled("adarft"), {"pool": pace})
