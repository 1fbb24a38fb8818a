"""Weighers of whole tasks and the gates on success: section 5's examples, and every state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import ConfigFault, Gate, Weigher, build, micro, part_table, resolve
from etude_sampler.curriculum.weighers.per_task import TaskWeigherConfig, mixed_probability
from etude_sampler.statistics import EstimatorConstants, TaskStatistics, empty, fold, summarise
from support.groups import COMPONENTS, binary_group

ALL = np.ones((1, 4), dtype=np.bool_)
WHOLE_TASKS = sorted(
    name for name, part in part_table().weighers.items() if issubclass(part, TaskWeigherConfig)
)


def _parts(**config: JsonValue) -> tuple[Weigher, Gate]:
    resolved = resolve(CurriculumConfig.model_validate(config), dataset_subtasks=COMPONENTS)
    made = build(resolved)
    return made.weigher, made.gate


def _weigher(name: str, **knobs: JsonValue) -> Weigher:
    return _parts(weigher={"name": name, "knobs": knobs})[0]


def _gate(name: str, **knobs: JsonValue) -> Gate:
    return _parts(gate={"name": name, "knobs": knobs})[1]


def _counts(s: float, f: float, *, ema: float = 0.0) -> TaskStatistics:
    """A task with these decayed counts."""
    return replace(empty(1, 4), s_N=np.array([s]), f_N=np.array([f]), ema_N=np.array([ema]))


def _weight(name: str, s: float, f: float, **knobs: JsonValue) -> float:
    weights = _weigher(name, **knobs).weights(_counts(s, f), ALL, version=0)
    assert (weights == weights[0, 0]).all()
    return float(weights[0, 0])


@pytest.mark.parametrize(
    ("size", "s", "f", "weight"),
    [
        (8, 0, 0, 0.6072),
        (8, 0, 4, 0.4101),
        (8, 0, 12, 0.2222),
        (8, 0, 24, 0.1328),
        (8, 2, 2, 0.9146),
        (8, 16, 0, 0.1814),
        (4, 0, 0, 0.4531),
        (4, 0, 4, 0.2779),
        (4, 2, 2, 0.7422),
        (4, 16, 0, 0.1041),
    ],
)
def test_mixed_group(size: int, s: float, f: float, weight: float) -> None:
    assert _weight("mixed_group", s, f, group_size=size) == pytest.approx(weight, abs=5e-5)


@pytest.mark.parametrize(("p", "size", "value"), [(0.25, 4, 0.6797), (0.1, 8, 0.5695)])
def test_a_sure_belief_gives_the_identity_of_section_1(p: float, size: int, value: float) -> None:
    much = 1e9
    mixed = mixed_probability(np.array([p * much]), np.array([(1 - p) * much]), size)
    assert mixed[0] == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize(
    ("s", "f", "weight"), [(0, 0, 0.1667), (2, 2, 0.2143), (4, 4, 0.2273), (7, 1, 0.1455)]
)
def test_learnability(s: float, f: float, weight: float) -> None:
    assert _weight("learnability", s, f) == pytest.approx(weight, abs=5e-5)


@pytest.mark.parametrize(
    ("p", "weight"), [(0.1, 4.4817), (0.25, 8.7152), (0.5, 12.1825), (0.9, 4.4817)]
)
def test_cures(p: float, weight: float) -> None:
    """Counts with posterior mean p: s + 1 = 20 p."""
    assert _weight("cures", 20 * p - 1, 20 * (1 - p) - 1) == pytest.approx(weight, abs=5e-5)


@pytest.mark.parametrize(
    ("tau", "ratio"), [(1.0, 1.6487), (0.5, 2.7183), (0.2, 12.1825), (0.1, 148.4132)]
)
def test_the_spread_of_cures_weights(tau: float, ratio: float) -> None:
    """The largest weight over that of a task whose success is certain, which tends to 1."""
    sure = _weight("cures", 1e20, 0, tau=tau)
    assert _weight("cures", 5, 5, tau=tau) / sure == pytest.approx(ratio, abs=5e-5)


@pytest.mark.parametrize(("ema", "weight"), [(0, 1.001), (0.25, 0.751), (0.5, 0.501), (1, 0.001)])
def test_kimi(ema: float, weight: float) -> None:
    stats = _counts(0, 0, ema=ema)
    assert _weigher("kimi").weights(stats, ALL, version=0)[0, 0] == pytest.approx(weight)


@pytest.mark.parametrize(
    ("s", "f", "weight"), [(0, 0, 1), (7, 1, 1), (7.1, 0.9, 1e-3), (0, 3, 1), (0, 3.1, 1e-3)]
)
def test_success_band_weights(s: float, f: float, weight: float) -> None:
    assert _weight("success_band", s, f) == weight


@pytest.mark.parametrize(
    ("name", "stats", "text"),
    [
        ("mixed_group", _counts(2, 2), "mixed(s 2 + 0.5, f 2 + 0.5, G 8) = 0.9146"),
        ("learnability", _counts(7, 1), "E[p(1-p)] under Beta(s 7 + 1, f 1 + 1) = 0.1455"),
        ("cures", _counts(4, 4), "exp(sigma 0.5000 / tau 0.2) = 12.1825"),
        ("kimi", _counts(0, 0, ema=0.25), "1 - success 0.2500 + 0.001 = 0.7510"),
        ("success_band", _counts(2, 2), "success 0.5000 inside [0.2, 0.8] = 1.0000"),
        ("success_band", _counts(20, 0), "success 0.9545 outside [0.2, 0.8] = 0.0010"),
    ],
)
def test_an_explanation_says_the_weight(name: str, stats: TaskStatistics, text: str) -> None:
    weigher = _weigher(name)
    assert weigher.explain(stats, 0, 3) == text
    assert text.endswith(f"= {weigher.weights(stats, ALL, version=3)[0, 0]:.4f}")
    assert weigher.refresh_ages == ()


def test_a_floor_holds_where_the_formula_falls_below_it() -> None:
    assert _weight("learnability", 1e9, 0) == 1e-3
    assert _weight("mixed_group", 1e9, 0, floor=0.25) == 0.25


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(2, 4096), min_size=1, max_size=12),
    name=st.sampled_from(WHOLE_TASKS),
    kind=st.sampled_from(["right", "wrong", "any"]),
)
def test_weights_of_every_reachable_state_are_finite_and_above_the_floor(
    seed: int, sizes: list[int], name: str, kind: str
) -> None:
    chance = np.random.default_rng(seed)
    weigher, stats = _weigher(name), empty(1, 1)
    active = np.array([[True, False]])
    for version, size in enumerate(sizes):
        right = {"right": size, "wrong": 0, "any": int(chance.integers(0, size + 1))}[kind]
        stats = fold(
            stats,
            summarise(binary_group(size, right)),
            version_N=np.array([version]),
            constants=EstimatorConstants(),
        )
        weights = weigher.weights(stats, active, version=version)
        assert np.isfinite(weights).all()
        assert weights[0, 0] >= 1e-3
        assert weights[0, 0] <= np.exp(0.5 / 0.2) + 1e-9
        assert weights[0, 1] == 0.0
        assert micro(weights)[0, 0] >= 1000


def test_the_largest_weight_of_all_fits_the_races_integers() -> None:
    assert micro(np.array([_weight("cures", 5, 5, tau=0.06)]))[0] < 2**32 - 1


def _kept(gate: Gate, size: int) -> list[int]:
    return [m for m in range(size + 1) if gate.admit(summarise(binary_group(size, m)))[0]]


@pytest.mark.parametrize(
    ("size", "kept"), [(4, (1, 3)), (5, (1, 4)), (8, (2, 6)), (10, (2, 8)), (16, (4, 12))]
)
def test_success_band_gate(size: int, kept: tuple[int, int]) -> None:
    assert _kept(_gate("success_band"), size) == list(range(kept[0], kept[1] + 1))


def test_dapo_gate() -> None:
    assert _kept(_gate("dapo"), 4) == [1, 2, 3]


@pytest.mark.parametrize(
    ("size", "shares"),
    [(8, (0, 0.4375, 0.75, 0.9375, 1)), (5, (0, 0.6667, 1, 1, 0.6667, 0))],
)
def test_vcrl_share(size: int, shares: tuple[float, ...]) -> None:
    for m, share in enumerate(shares):
        kappa = min(1.0, share + 1e-4)
        assert (m in _kept(_gate("vcrl", kappa=kappa), size)) == (share == 1)
        assert share == 0 or m in _kept(_gate("vcrl", kappa=share - 1e-4), size)


@pytest.mark.parametrize(
    ("kappa", "size", "kept"),
    [(0.3, 8, (1, 7)), (0.8, 8, (3, 5)), (0.3, 16, (2, 14)), (0.8, 16, (5, 11))],
)
def test_vcrl_gate(kappa: float, size: int, kept: tuple[int, int]) -> None:
    assert _kept(_gate("vcrl", kappa=kappa), size) == list(range(kept[0], kept[1] + 1))


@pytest.mark.parametrize("name", ["success_band", "dapo", "vcrl"])
def test_a_group_without_valid_rollouts_is_not_trained_on(name: str) -> None:
    group = binary_group(4, 2)
    nothing = replace(group, valid_NG=np.zeros((1, 4), dtype=np.bool_))
    assert _gate(name).admit(summarise(nothing)).tolist() == [False]


@pytest.mark.parametrize("kind", ["weigher", "gate"])
def test_a_band_upside_down_is_refused(kind: str) -> None:
    part: JsonValue = {"name": "success_band", "knobs": {"low": 0.8, "high": 0.2}}
    with pytest.raises(ConfigFault, match="low must not be above high"):
        _parts(**{kind: part})


def test_every_part_says_whose_it_is() -> None:
    table = part_table()
    for part in (*table.weighers.values(), *table.allocators.values(), *table.gates.values()):
        assert part.paper
        assert part.state
