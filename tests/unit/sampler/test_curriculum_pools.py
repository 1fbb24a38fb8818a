"""Pools: section 5's examples, every reachable state, and the choice among candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from scipy.stats import beta as beta_law
from scipy.stats import kstest

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import (
    PRESETS,
    ConfigFault,
    Curriculum,
    FoldInput,
    at_pace,
    build,
    fold_state,
    part_table,
    resolve,
    start_state,
)
from etude_sampler.curriculum.candidates import (
    Candidates,
    Chance,
    choose,
    num_candidates,
    num_control,
)
from etude_sampler.curriculum.parts import Allocator, AllocatorConfig, Context, Pool
from etude_sampler.curriculum.pooling import beside_pool
from etude_sampler.curriculum.pools.beta import beta_draws
from etude_sampler.curriculum.pools.plr import replay_distribution
from etude_sampler.leasing import lane_key, uniforms
from etude_sampler.statistics import (
    Bools,
    EstimatorConstants,
    Floats,
    GroupSummary,
    TaskStatistics,
    empty,
    fold,
    summarise,
)
from support.groups import COMPONENTS, outcomes

POOLS = sorted(part_table().pools)


def _groups(won: Sequence[int], size: int = 8) -> GroupSummary:
    """A group of each task with so many rollouts right."""
    return summarise(outcomes([{"format": [1.0] * m + [0.0] * (size - m)} for m in won]))


def _curriculum(name: str, **knobs: JsonValue) -> Curriculum:
    config = {"preset": "uniform", "control_share": 0.1, "pool": {"name": name, "knobs": knobs}}
    return build(resolve(CurriculumConfig.model_validate(config), dataset_subtasks=COMPONENTS))


def _pool(name: str, **knobs: JsonValue) -> Pool:
    pool = _curriculum(name, **knobs).pool
    assert pool is not None
    return pool


def _chance(num: int, *, seed: int = 5) -> Chance:
    everyone = np.arange(num)

    def chance(number: int) -> Floats:
        return uniforms(
            seed, ordinals_N=everyone, entries_N=everyone, key=lane_key("test"), number=number
        )

    return chance


def _candidates(
    stats: TaskStatistics, *, version: int = 0, **columns: Sequence[float]
) -> Candidates:
    num = len(stats.n_N)
    nothing = [np.nan] * num
    return Candidates(
        stats=stats,
        prediction_N=np.array(columns.get("prediction", nothing)),
        pass_rate_N=np.array(columns.get("pass_rate", nothing)),
        version=version,
        chance=_chance(num),
    )


def _kept(values_N: Floats, num: int) -> list[int]:
    shuffle_N = _chance(len(values_N))(1)
    _, chosen_N = choose(
        values_N, num_kept=num, num_control=0, shuffle_N=shuffle_N, control_N=shuffle_N
    )
    return np.flatnonzero(chosen_N).tolist()


@pytest.mark.parametrize(("lam", "after"), [(0.5, [(7, 3), (6, 8)]), (1.0, [(7, 3), (9, 9)])])
def test_mopps_belief(lam: float, after: list[tuple[float, float]]) -> None:
    curriculum = _curriculum("mopps", lam=lam)
    stats = empty(1, 4, curriculum.shape.fresh)
    assert stats.x_NE.tolist() == [[1.0, 1.0]]
    for won, want in zip((6, 2), after, strict=True):
        stats = fold(
            stats,
            _groups([won]),
            version_N=np.array([0]),
            constants=EstimatorConstants(),
            notes=curriculum.notes,
        )
        assert stats.x_NE.tolist() == [list(want)]


def test_mopps_keeps_what_may_well_be_one_half() -> None:
    """Sure beliefs near 0, 1/2 and 1; the one in the middle stays, the others never do."""
    curriculum = _curriculum("mopps")
    stats = replace(
        empty(3, 4, curriculum.shape.fresh),
        x_NE=np.array([[10.0, 990.0], [500.0, 500.0], [990.0, 10.0]]),
    )
    assert curriculum.pool is not None
    found = _candidates(stats)
    assert _kept(curriculum.pool.values(found), 1) == [1]
    assert curriculum.pool.explain(found) == "belief Beta(10, 990), mean 0.0100"


@pytest.mark.parametrize(
    ("a", "b"), [(1.0, 1.0), (7.0, 3.0), (1.0, 9.0), (40.0, 1.0), (1.5, 1.2), (300.0, 200.0)]
)
def test_beta_draws_follow_the_law(a: float, b: float) -> None:
    num = 4000
    drawn_N = beta_draws(np.full(num, a), np.full(num, b), _chance(num), first=2)
    assert kstest(drawn_N, beta_law(a, b).cdf).pvalue > 0.01


def test_a_beta_draw_depends_on_its_row_alone() -> None:
    chance = _chance(6)
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
            beta_draws(np.array([a]), np.array([b]), _chance(1), first=2)


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
    pool, num = _pool("plr"), 800
    unseen = 0
    for seed in range(num):
        found = replace(_candidates(stats, version=4), chance=_chance(4, seed=seed))
        unseen += _kept(pool.values(found), 1) != [0]
    assert unseen / num == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / num) ** 0.5)
    found = _candidates(stats, version=4)
    assert pool.explain(found) == "signal 0.9000 of the last group, 4 versions ago"
    alone = replace(found, stats=stats.select(slice(1, 2)))
    assert pool.explain(alone).startswith("unseen")


def test_pcl() -> None:
    found = _candidates(empty(4, 4), prediction=[0.1, 0.45, 0.8, 0.56])
    pool = _pool("pcl")
    assert _kept(pool.values(found), 2) == [1, 3]
    assert pool.explain(found) == "V 0.1000, 0.4000 from 0.5"


def test_pcl_without_predictions_goes_by_the_task_itself() -> None:
    """Seen: its moving average; unseen: one half, so it comes first."""
    stats = replace(empty(3, 4), n_N=np.array([2, 0, 1]), ema_N=np.array([0.3, 0.0, 0.9]))
    values_N = _pool("pcl").values(_candidates(stats, prediction=[np.nan, np.nan, 0.6]))
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
    curriculum = _curriculum("adarft")
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
    found = _candidates(
        replace(empty(4, 4), n_N=np.array([1, 1, 1, 0]), ema_N=np.full(4, 0.8)),
        pass_rate=[0.9, 0.3, np.nan, np.nan],
        prediction=[0.0, 0.0, 0.6, np.nan],
    )
    assert pool.values(found).tolist() == pytest.approx([56.404, 3.596, 26.404, 16.404], abs=5e-4)
    assert pool.explain(found) == "difficulty 10.0, target 66.4"


@pytest.mark.parametrize("pace", [None, True, "33"])
def test_adarft_refuses_a_target_that_is_no_number(pace: JsonValue) -> None:
    with pytest.raises(ValueError, match="is a number"):
        at_pace(_curriculum("adarft"), {"pool": pace})


@st.composite
def _histories(draw: st.DrawFn) -> tuple[list[list[int]], list[float]]:
    """Successes in the groups of each task, in order, and predictions, some missing."""
    num = draw(st.integers(1, 12))
    groups = st.lists(st.integers(0, 8), max_size=5)
    rates = st.one_of(st.just(float("nan")), st.floats(0.0, 1.0))
    return [draw(groups) for _ in range(num)], [draw(rates) for _ in range(num)]


@settings(deadline=None, max_examples=60)
@given(history=_histories(), version=st.integers(5, 50), share=st.floats(0.0, 1.0), data=st.data())
@pytest.mark.parametrize("name", POOLS)
def test_in_every_state_exactly_so_many_are_kept(
    name: str,
    history: tuple[list[list[int]], list[float]],
    version: int,
    share: float,
    data: st.DataObject,
) -> None:
    """Values are never nan; the control arm and the chosen are disjoint and fill the batch."""
    curriculum = _curriculum(name)
    groups, rates = history
    stats = empty(len(groups), 4, curriculum.shape.fresh)
    for turn in range(5):
        rows = [i for i, won in enumerate(groups) if len(won) > turn]
        if rows:
            summary = _groups([groups[i][turn] for i in rows])
            new = fold(
                stats.select(np.array(rows)),
                summary,
                version_N=np.full(len(rows), turn),
                constants=EstimatorConstants(),
                notes=curriculum.notes,
            )
            for column in TaskStatistics.__slots__:
                getattr(stats, column)[rows] = getattr(new, column)
    found = _candidates(stats, version=version, prediction=rates, pass_rate=rates[::-1])
    assert curriculum.pool is not None
    values_N = curriculum.pool.values(found)
    assert values_N.shape == (len(groups),)
    assert not np.isnan(values_N).any()
    assert (values_N >= 0.0).all()
    num_kept = data.draw(st.integers(0, len(groups)))
    control = num_control(num_kept, share=share, chance=float(found.chance(9)[0]))
    assert abs(control - share * num_kept) < 1.0
    masks: tuple[Bools, Bools] = choose(
        values_N,
        num_kept=num_kept,
        num_control=control,
        shuffle_N=found.chance(1),
        control_N=found.chance(8),
    )
    assert not (masks[0] & masks[1]).any()
    assert [int(mask.sum()) for mask in masks] == [control, num_kept - control]
    left_N = ~(masks[0] | masks[1])
    if masks[1].any() and left_N.any():
        assert values_N[masks[1]].max() <= values_N[left_N].min()


def test_the_control_arm_rounds_by_chance() -> None:
    chances = (np.arange(1000) + 1) / 1000
    sizes = [num_control(8, share=0.3, chance=float(chance)) for chance in chances]
    assert set(sizes) == {2, 3}
    assert np.mean(sizes) == pytest.approx(2.4, abs=2e-3)
    assert num_control(8, share=0.0, chance=2**-53) == 0
    assert num_control(8, share=1.0, chance=1.0) == 8


@pytest.mark.parametrize(
    ("num", "factor", "most", "want"),
    [(8, 16.0, 4096, 128), (3, 1.5, 4096, 5), (300, 16.0, 4096, 4096), (8, 1.0, 4, 8)],
)
def test_number_of_candidates(num: int, factor: float, most: int, want: int) -> None:
    assert num_candidates(num, factor=factor, most=most) == want


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_draws_everything_from_uniform_and_trusts_the_control_arm(name: str) -> None:
    config = CurriculumConfig.model_validate({"preset": name})
    resolved = resolve(config, dataset_subtasks=COMPONENTS)
    assert resolved.control_share == PRESETS[name].control_share == 0.05
    assert resolved.allocator.knobs["mastery_source"] == "control"
    curriculum = build(resolved)
    state = start_state(curriculum)
    assert curriculum.allocator.shares(state).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert curriculum.lane_names == (*curriculum.lanes, "pool")


@pytest.mark.parametrize(
    ("config", "pointer", "said"),
    [
        ({"preset": "plr", "pool": {"name": "nobody"}}, "/curriculum/pool/name", "unknown pool"),
        (
            {"preset": "plr", "pool": {"name": "plr", "knobs": {"beta": 0.0}}},
            "/curriculum/pool/knobs/beta",
            "greater than or equal to 0.05",
        ),
        (
            {"preset": "pcl", "pool": {"name": "pcl", "knobs": {"lam": 1.0}}},
            "/curriculum/pool/knobs/lam",
            "unknown knob",
        ),
        (
            {
                "preset": "pcl",
                "allocator": {"name": "fixed", "knobs": {"mastery_source": "all"}},
            },
            "/curriculum/allocator/knobs/mastery_source",
            "only the control arm",
        ),
        ({"preset": "dscl", "pool": {"name": "pcl"}}, "/curriculum/weigher", "'rds' would never"),
        ({"preset": "pcl", "lanes_by": "source"}, "/curriculum/lanes_by", "no slots"),
        ({"preset": "pcl", "hard": {"name": "multi_round"}}, "/curriculum/hard", "no lane"),
    ],
)
def test_a_wrong_config_is_named(config: JsonValue, pointer: str, said: str) -> None:
    with pytest.raises(ConfigFault, match=said) as fault:
        resolve(CurriculumConfig.model_validate(config), dataset_subtasks=COMPONENTS)
    assert fault.value.pointer == pointer


def test_the_name_of_the_lane_is_reserved() -> None:
    config = CurriculumConfig.model_validate({"preset": "plr"})
    with pytest.raises(ConfigFault, match="reserved"):
        resolve(config, dataset_subtasks=["pool"])
    plain = CurriculumConfig.model_validate({"preset": "uniform"})
    assert resolve(plain, dataset_subtasks=["pool"]).subtasks == ["pool"]


class _NoMastery(AllocatorConfig):
    """An installed allocator that estimates no mastery."""

    name = "no_mastery"

    def build(self, context: Context) -> Allocator:
        """Never asked for here."""
        raise NotImplementedError


def test_an_allocator_without_mastery_stays_as_it_is() -> None:
    config, allocator = CurriculumConfig(), _NoMastery()
    pool = part_table().pools["pcl"]()
    assert (
        beside_pool(config, pool, allocator, ["format"], lanes_by="subtasks", weigher="uniform")
        is allocator
    )
    assert (
        beside_pool(config, None, allocator, ["pool"], lanes_by="source", weigher="rds")
        is allocator
    )
