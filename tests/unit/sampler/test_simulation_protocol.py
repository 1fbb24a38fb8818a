"""Metrics of a run and the comparison of strategies, from traces written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from etude_sampler.simulation import (
    Outcome,
    Trace,
    arms_of,
    compare,
    estimate,
    measure,
    t_quantile,
)
from etude_sampler.simulation.mastering import WARM_UP, Estimates, errors


def _trace(success: list[float], *, mastery: float = np.nan) -> Trace:
    num = len(success)
    return Trace(
        rollouts_B=np.arange(num) * 512,
        steps_B=np.arange(num) // 2,
        success_B=np.array(success),
        num_groups=200,
        num_informative=150,
        last_served_N=np.minimum([0, 1, 3, 4], num - 1),
        component_K=np.array([0.9, 0.8, 0.7, 0.6]),
        mastery_K=np.array([mastery, 0.5, np.nan, np.nan]),
        held_K=np.array([0.9, 0.6, 0.5, 0.4]),
    )


def test_measure() -> None:
    found = measure(_trace([0.1, 0.3, 0.5, 0.6, 0.7], mastery=0.93))
    assert found["final_success"] == 0.7
    assert found["area_under_curve"] == pytest.approx((0.2 + 0.4 + 0.55 + 0.65) / 4)
    assert found["informative_share"] == 0.75
    assert found["rollouts_to_target"] == 3 * 512
    assert found["steps_to_target"] == 1
    assert found["num_steps"] == 2
    assert found["never_served"] == 0.25
    assert found["not_served_last_quarter"] == 0.75
    assert found["mastery_error"] == pytest.approx(0.1)
    assert found["chance_param_value"] == 0.6


def test_what_was_not_reached_has_no_number() -> None:
    trace = _trace([0.1, 0.3, 0.5, 0.59])
    assert measure(trace)["rollouts_to_target"] is None
    assert measure(trace)["steps_to_target"] is None
    assert measure(trace, target=0.5)["rollouts_to_target"] == 1024


def test_errors_of_mastery_after_the_warm_up() -> None:
    held_VK = np.full((WARM_UP + 4, 2), 0.5)
    now_VK, ema_VK = held_VK + 0.3, held_VK - 0.1
    now_VK[WARM_UP:, 0] = [0.51, 0.51, 0.53, 0.53]
    now_VK[WARM_UP:, 1] = 0.5
    found = errors(Estimates(held_VK, now_VK, ema_VK))
    assert found["mastery_bias"] == pytest.approx(0.02)
    assert found["mastery_rms"] == pytest.approx(np.sqrt(0.0005))
    assert found["mastery_within"] == 0.75
    assert found["ema_rms"] == pytest.approx(0.1)


@pytest.mark.parametrize("num_versions", [0, WARM_UP])
def test_too_few_versions_have_no_errors(num_versions: int) -> None:
    some_VK = np.zeros((num_versions, 2))
    given = Estimates(some_VK, some_VK, some_VK) if num_versions else None
    assert set(errors(given).values()) == {None}


def test_unknown_mastery_has_no_errors() -> None:
    some_VK = np.zeros((WARM_UP + 1, 2))
    assert set(errors(Estimates(some_VK, some_VK + np.nan, some_VK)).values()) == {None}


def test_mastery_before_the_first_fold_has_no_error() -> None:
    trace = _trace([0.1, 0.2])
    trace.mastery_K[:] = np.nan
    assert measure(trace)["mastery_error"] is None


@pytest.mark.parametrize("degrees", [1, 2, 9, 19, 30, 31, 99, 999])
def test_the_quantile_of_t(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(scipy_stats.t.ppf(0.975, degrees), abs=1e-3)


def test_an_interval_is_that_of_section_11() -> None:
    values = [0.1 * place for place in range(10)]
    found = estimate(values)
    half = 2.262 * float(np.std(values, ddof=1)) / np.sqrt(10)
    assert found.mean == pytest.approx(0.45)
    assert (found.low, found.high) == pytest.approx((0.45 - half, 0.45 + half))
    assert found.num_seeds == 10


def test_one_seed_has_no_interval_and_a_missing_one_no_mean() -> None:
    alone = estimate([3.0])
    assert (alone.mean, alone.low, alone.high, alone.num_seeds) == (3.0, None, None, 1)
    assert estimate([3.0, None]).values == (3.0, None)
    assert estimate([3.0, None]).mean is None
    assert estimate([3.0, None]).num_seeds == 1
    assert estimate([]).num_seeds == 0


def _outcome(strategy: str, seed: int, area: float, rollouts: float | None) -> Outcome:
    nothing = np.zeros(1)
    metrics = {"area_under_curve": area, "rollouts_to_target": rollouts}
    return Outcome(strategy, seed, metrics, nothing.astype(int), nothing.astype(int), nothing)


def _table(bound: float | None = 50.0) -> list[Outcome]:
    rows = []
    for seed in (0, 1):
        rows += [
            _outcome("uniform", seed, 0.4 + seed / 10, 100.0),
            _outcome("good", seed, 0.5 + seed / 10, 80.0),
            _outcome("slow", seed, 0.3 + seed / 10, None if seed else 120.0),
            _outcome("oracle_success", seed, 0.7 + seed / 10, 60.0),
            _outcome("oracle_gradient", seed, 0.6 + seed / 10, bound),
        ]
    return rows


def test_differences_are_paired() -> None:
    good = compare(_table())[1]
    area = good.versus_baseline["area_under_curve"]
    assert (area.mean, area.low, area.high) == pytest.approx((0.1, 0.1, 0.1))
    wide = good.metrics["area_under_curve"]
    assert wide.low is not None
    assert wide.low < 0.0


def test_the_gap_is_that_to_the_better_oracle_of_each_metric() -> None:
    uniform, good, slow, success, gradient = compare(_table())
    assert uniform.gap_closed["area_under_curve"].mean == 0
    assert good.gap_closed["rollouts_to_target"].mean == pytest.approx(20 / 50)
    assert good.gap_closed["area_under_curve"].mean == pytest.approx(0.1 / 0.3)
    assert slow.gap_closed["rollouts_to_target"].mean is None
    assert slow.gap_closed["area_under_curve"].mean == pytest.approx(-0.1 / 0.3)
    assert success.gap_closed["area_under_curve"].mean == pytest.approx(1.0)
    assert gradient.gap_closed["rollouts_to_target"].mean == pytest.approx(1.0)


def test_an_oracle_that_did_not_arrive_is_no_bound_and_no_gap_is_no_share() -> None:
    good = compare(_table(bound=None))[1]
    assert good.gap_closed["rollouts_to_target"].mean == pytest.approx(20 / 40)
    same = [_outcome(name, 0, 0.4, 100.0) for name in ("uniform", "oracle_success")]
    assert compare(same)[0].gap_closed["area_under_curve"].mean is None
    assert compare(same[:1])[0].gap_closed == {}


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="no run of 'uniform'"):
        compare(_table()[1:2])
    with pytest.raises(ValueError, match="different seeds"):
        compare(_table()[:-1])


def test_the_baseline_and_the_oracles_are_always_there() -> None:
    assert arms_of(["oracle_success", "dscl", "uniform", "dscl"]) == [
        "uniform",
        "dscl",
        "oracle_success",
        "oracle_gradient",
    ]
