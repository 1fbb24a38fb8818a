"""The choice among candidates in every reachable state, and what a config may say of a pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import (
    PRESETS,
    ConfigFault,
    build,
    part_table,
    resolve,
    start_state,
)
from etude_sampler.curriculum.candidates import choose, num_candidates, num_control
from etude_sampler.curriculum.parts import Allocator, AllocatorConfig, Context
from etude_sampler.curriculum.pooling import beside_pool
from etude_sampler.statistics import Bools, EstimatorConstants, TaskStatistics, empty, fold
from support.groups import COMPONENTS
from support.pools import candidates_of, groups_of, pooled

POOLS = sorted(part_table().pools)


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
    curriculum = pooled(name)
    groups, rates = history
    stats = empty(len(groups), 4, curriculum.shape.fresh)
    for turn in range(5):
        rows = [i for i, won in enumerate(groups) if len(won) > turn]
        if rows:
            summary = groups_of([groups[i][turn] for i in rows])
            new = fold(
                stats.select(np.array(rows)),
                summary,
                version_N=np.full(len(rows), turn),
                constants=EstimatorConstants(),
                notes=curriculum.notes,
            )
            for column in TaskStatistics.__slots__:
                getattr(stats, column)[rows] = getattr(new, column)
    found = candidates_of(stats, version=version, prediction=rates, pass_rate=rates[::-1])
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
        ({"preset": "pcl", "hard": {"name": "multi_round"}}, "/curriculum/hard", "no slots"),
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
