"""Hard sampling as a part: lanes, weights, shares, rounds; what a config may say."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig, ResolvedCurriculum
from etude_sampler.curriculum import (
    ConfigFault,
    Curriculum,
    build,
    fold_state,
    resolve,
    start_state,
)
from etude_sampler.curriculum.hard import FEW_SHOT, HardSampling, Visit
from etude_sampler.curriculum.hard.machine import FRESH, PARKED, K
from etude_sampler.curriculum.hard.pace import HardPace
from etude_sampler.curriculum.state import FoldInput
from etude_sampler.statistics import Floats
from support.groups import COMPONENTS, fold_input

Config = dict[str, JsonValue]
ON: Config = {"preset": "uniform", "hard": {"name": "multi_round"}}


def resolved(config: Config, subtasks: tuple[str, ...] = COMPONENTS) -> ResolvedCurriculum:
    """The curriculum of a config."""
    return resolve(CurriculumConfig.model_validate(config), dataset_subtasks=subtasks)


def sampling(config: Config = ON) -> tuple[Curriculum, HardSampling]:
    """A curriculum with hard sampling."""
    curriculum = build(resolved(config))
    assert curriculum.hard is not None
    return curriculum, curriculum.hard


def folded(live: Floats, *, groups: int, tasks: int, version: int = 1) -> FoldInput:
    """One version's groups, with everything that hard sampling remembers."""
    base = fold_input(np.full((2, 4), 0.3))
    return FoldInput(
        **{
            name: getattr(base, name)
            for name in FoldInput.__slots__
            if name not in ("num_groups", "num_tasks", "live_ME", "num_acked_batches")
        },
        num_acked_batches=version,
        num_groups=groups,
        num_tasks=tasks,
        live_ME=live,
    )


def states(*visits: tuple[int, str, int, int, int]) -> Floats:
    """Notes of 6 tasks after (ordinal, kind, level, won, of)."""
    _, hard = sampling()
    rows = np.array([FRESH] * 6)
    for ordinal, kind, level, won, of in visits:
        rows[ordinal] = hard.visited(rows[ordinal], Visit(ordinal, kind, level, of, won))
    return rows


def test_lanes_come_after_the_components() -> None:
    curriculum, _ = sampling()
    assert curriculum.lanes == ("uniform", *COMPONENTS, "hard", "probe")
    assert build(resolved({"preset": "uniform"})).lanes == ("uniform", *COMPONENTS)


def test_where_a_task_stands() -> None:
    """Active: as before; hard: uniform and hard; parked: nowhere; owed a probe: there too."""
    _, hard = sampling()
    rows = states(
        (1, "none", 0, 0, 10), (2, "none", 0, 0, 10), (2, FEW_SHOT, 2, 8, 10), (3, "none", 0, 0, 4)
    )
    rows[4, [0, K, 8, 9]] = [1, PARKED, 0, 4]
    before = np.tile(np.array([1_000_000, 500_000, 0, 20, 7]), (6, 1))
    lanes = hard.lanes(before, rows)
    assert lanes[0].tolist() == [1_000_000, 500_000, 0, 20, 7, 0, 0]
    assert lanes[1].tolist() == [1_000_000, 0, 0, 0, 0, 1_000_002, 0]
    assert lanes[2].tolist() == [1_000_000, 0, 0, 0, 0, 1_000_001, 0]
    assert lanes[4].tolist() == [0] * 7
    assert [hard.served(int(lanes[row, -2])) for row in (1, 2)] == [2, 1]
    pace = hard.advance(hard.start(), folded(rows, groups=6, tasks=6))
    later = hard.at(pace).lanes(before, rows)
    assert later[3].tolist() == [1_000_000, 500_000, 0, 20, 7, 0, 1_000_006]
    assert hard.served(int(later[3, -1])) == 6
    assert later[4, -2] == 1_000_002, "of six tasks none may be parked"


def test_shares() -> None:
    """N = 4000: 600 hard get .15, 1500 get .25; the others are scaled, the sum stays 1."""
    _, hard = sampling()
    base = np.array([0.1, 0.9])
    for num_hard, share in ((600, 0.15), (1500, 0.25), (0, 0.0)):
        live = np.array([FRESH] * num_hard).reshape(num_hard, len(FRESH))
        live[:, [0, K]] = [1, 2]
        pace = hard.advance(hard.start(), folded(live, groups=64, tasks=4000))
        shares = hard.at(pace).shares(base)
        assert shares[-2:].tolist() == [share, 0.0]
        assert shares[:2] == pytest.approx((1 - share) * base)
        assert shares.sum() == pytest.approx(1.0)
    assert hard.shares(base).tolist() == [0.1, 0.9, 0.0, 0.0], "before the first version"


def test_probes_get_a_tenth_of_the_slots_at_most() -> None:
    _, hard = sampling()
    for num_due, share in ((50, 0.1), (4, 0.0625)):
        live = np.array([FRESH] * num_due)
        live[:, [0, 3]] = [1, 8]
        pace = hard.advance(hard.start(), folded(live, groups=64, tasks=64))
        assert hard.at(pace).shares(np.array([1.0])).tolist() == [1 - share, 0.0, share]


def test_the_pace_is_folded_with_the_state() -> None:
    curriculum, hard = sampling()
    state = start_state(curriculum)
    assert state.pace["hard"] == hard.start()
    rows = states((1, "none", 0, 0, 10))
    after = fold_state(curriculum, state, folded(rows, groups=6, tasks=6, version=3))
    pace = after.pace["hard"]
    assert isinstance(pace, dict)
    assert [pace[n] for n in ("round", "turned_at", "num_hard", "num_tasks")] == [1, 3, 1, 6]


def test_no_more_than_five_percent_are_parked() -> None:
    """N = 4000: at most 200."""
    _, hard = sampling()
    live = np.array([FRESH] * 300)
    live[:, [0, K, 8]], live[:, 9] = [1, PARKED, 0], np.arange(300)
    pace = hard.advance(hard.start(), folded(live, groups=1, tasks=4000))
    assert isinstance(pace, dict)
    assert (pace["num_parked"], pace["num_hard"], pace["freed"]) == (200, 100, [0, 99])


def test_what_a_task_is_said_to_be() -> None:
    rows = states(
        (0, "none", 0, 0, 4), (1, "none", 0, 0, 10), (2, "none", 0, 0, 10), (2, FEW_SHOT, 2, 8, 10)
    )
    rows[4, [0, K, 8, 9]] = [1, PARKED, 0, 4]
    _, hard = sampling()
    assert [hard.explain(row) for row in rows[:5]] == [
        "active: 4 of 10 failures in a row",
        "hard: 2 demonstrations",
        "hard: 1 demonstration",
        "active: 0 of 10 failures in a row",
        "parked: nothing helped so far",
    ]
    assert hard.live_column == 0


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"hard": {"name": "nobody"}}, "/curriculum/hard/name"),
        ({"hard": {"name": "multi_round", "knobs": {"k_max": 0}}}, "/curriculum/hard/knobs/k_max"),
        (
            {"hard": {"name": "multi_round", "knobs": {"probe_from": 10}}},
            "/curriculum/hard/knobs/probe_from",
        ),
    ],
)
def test_wrong_configs_are_named(config: Config, where: str) -> None:
    with pytest.raises(ConfigFault) as fault:
        resolved(config)
    assert fault.value.pointer == where


def test_names_of_lanes_are_reserved() -> None:
    with pytest.raises(ConfigFault) as fault:
        resolved(ON, (*COMPONENTS, "probe"))
    assert fault.value.pointer == "/curriculum/subtasks/4"
    assert resolved({"preset": "uniform"}, ("probe",)).lanes == ["uniform", "probe"]


def test_a_budget_may_stand_beside() -> None:
    curriculum, _ = sampling({**ON, "budget": {"name": "cures"}})
    assert curriculum.budget is not None
    assert curriculum.lanes[-2:] == ("hard", "probe")


def test_a_pool_draws_from_no_lane_hard() -> None:
    with pytest.raises(ConfigFault) as fault:
        resolved({**ON, "pool": {"name": "plr"}})
    assert fault.value.pointer == "/curriculum/hard"
    with pytest.raises(ConfigFault) as fault:
        resolved({"preset": "toolexpander", "pool": {"name": "plr"}})
    assert fault.value.pointer == "/curriculum/pool"


def test_a_pace_of_another_shape_is_refused() -> None:
    _, hard = sampling()
    with pytest.raises(ValueError, match="no object"):
        hard.at([1])


def test_pace_as_json() -> None:
    pace = HardPace(3, 7, 8, 90, 2, (1, 5), 4, 2, 1)
    assert HardPace.from_json(pace.to_json()) == pace
    wrongs: list[dict[str, JsonValue]] = [
        {},
        {**pace.to_json(), "freed": [1]},
        {**pace.to_json(), "round": 1.5},
        {**pace.to_json(), "num_hard": True},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="hard sampling"):
            HardPace.from_json(wrong)


def test_a_round_is_as_many_groups_as_tasks() -> None:
    pace = HardPace().advanced(30, num_tasks=100, version=1)
    assert (pace.round, pace.num_groups, pace.turned_at) == (0, 30, 0)
    pace = pace.advanced(80, num_tasks=100, version=2)
    assert (pace.round, pace.num_groups, pace.turned_at, pace.last_groups) == (1, 10, 2, 80)
    assert pace.advanced(290, num_tasks=100, version=3).round == 4
