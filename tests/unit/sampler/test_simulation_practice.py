"""Runs of the simulated learner: reference figures, conservation, oracles, every preset."""

from __future__ import annotations

import numpy as np
import pytest

from etude_sampler.curriculum import PRESETS
from etude_sampler.simulation import (
    ORACLES,
    Plan,
    Practice,
    Trace,
    compare,
    make_arm,
    make_world,
    simulate,
    strategy_names,
)

SHORT = Plan(budget=20 * 512)
SPEED = 24
"""Rollouts that one task of `speed` may cost: less than that may be left over."""
OFFLINE = 32 * 512
"""Enough for the 16,000 rollouts by which `ladder` learns the levels, and 48 tasks more."""


def _run(strategy: str, *, seed: int = 0, plan: Plan = SHORT) -> Trace:
    arm = make_arm(strategy, group_size=plan.group_size)
    return Practice(arm, make_world(seed), plan, seed=seed).run()


@pytest.mark.slow
def test_uniform_has_the_reference_figures_and_dscl_beats_it() -> None:
    """Algorithms.md 11, ten paired seeds at the full budget."""
    uniform, dscl = compare(
        [simulate(name, seed, Plan()) for name in ("uniform", "dscl") for seed in range(10)]
    )
    means = {name: estimate.mean for name, estimate in uniform.metrics.items()}
    assert means["final_success"] == pytest.approx(0.67, abs=0.02)
    assert means["area_under_curve"] == pytest.approx(0.39, abs=0.02)
    assert means["informative_share"] == pytest.approx(0.86, abs=0.01)
    assert means["rollouts_to_target"] == pytest.approx(87_000, rel=0.03)
    assert means["never_served"] == pytest.approx(0.0, abs=0.01)
    area = dscl.versus_baseline["area_under_curve"]
    assert area.mean == pytest.approx(0.025, abs=0.005)
    assert area.low is not None
    assert area.low > 0
    sooner = dscl.versus_baseline["rollouts_to_target"]
    assert sooner.high is not None
    assert sooner.high < 0
    for one in (uniform, dscl):
        rms, close = one.metrics["mastery_rms"], one.metrics["mastery_within"]
        assert max(value for value in rms.values if value is not None) < 0.015
        assert close.mean is not None
        assert close.mean > 0.95
        assert one.metrics["mastery_bias"].mean == pytest.approx(0.0, abs=0.01)
        assert one.metrics["ema_rms"].mean == pytest.approx(0.045, abs=0.01)


UNEQUAL = ("speed", "scaf_grpo", "ghpo")
"""Batches of these cost more or less than tasks times group size."""


@pytest.mark.parametrize("strategy", strategy_names())
def test_every_strategy_spends_the_budget_and_learns(strategy: str) -> None:
    offline = OFFLINE if strategy == "ladder" else 0
    trace = _run(strategy, plan=Plan(budget=20 * 512 + offline))
    assert 20 * 512 - SPEED < trace.rollouts_B[-1] - offline <= 20 * 512
    if strategy == "ladder":
        assert trace.rollouts_B.tolist() == [0, *range(16_000, 20 * 512 + offline, 512), 26_624]
        assert trace.num_groups == 20 * 64 + offline // 8
    elif strategy not in UNEQUAL:
        assert trace.rollouts_B.tolist() == list(range(0, 20 * 512 + 1, 512))
        assert trace.num_groups == 20 * 64
    assert trace.success_B[-1] > trace.success_B[0]
    assert (np.diff(trace.steps_B) >= 0).all()
    assert 0 < trace.steps_B[-1] <= 20
    assert np.isfinite(trace.component_K).all()
    # A task is at most once in a batch, so at least 64 were served, and no more than all.
    assert 64 <= np.count_nonzero(trace.last_served_N) <= 2000


@pytest.mark.parametrize("oracle", ORACLES)
def test_an_oracle_chooses_anew_at_every_step(oracle: str) -> None:
    """Tasks that were best at the start give way as the learner moves on."""
    assert np.count_nonzero(_run(oracle).last_served_N) > 120


@pytest.mark.parametrize("strategy", ["dscl", "oracle_gradient"])
def test_a_run_is_a_function_of_its_seed(strategy: str) -> None:
    one, two, other = (_run(strategy, seed=seed) for seed in (3, 3, 4))
    assert one.success_B.tolist() == two.success_B.tolist()
    assert (one.last_served_N == two.last_served_N).all()
    assert one.success_B.tolist() != other.success_B.tolist()


def test_only_kept_groups_make_steps() -> None:
    """Without a gate every batch is a step; with one, dropped groups delay the next."""
    free, gated = _run("ungated"), _run("gate_only")
    assert free.steps_B.tolist() == list(range(21))
    assert gated.steps_B[-1] == gated.num_informative * 8 // 512


def test_small_batches_buy_no_extra_steps() -> None:
    plan = Plan(budget=SHORT.budget, batch_tasks=16, group_size=4)
    trace = _run("ungated", plan=plan)
    assert trace.steps_B[-1] == 20
    large = Plan(budget=SHORT.budget, batch_tasks=256, group_size=8)
    assert _run("ungated", plan=large).steps_B.tolist() == [0, 4, 8, 12, 16, 20]


def test_an_oracle_draws_the_tasks_that_are_best() -> None:
    """With p(1-p) known, the first batch holds nothing that is never or always right."""
    plan = Plan(budget=512)
    trace = _run("oracle_success", plan=plan)
    assert trace.num_informative >= 62
    assert _run("uniform", plan=plan).num_informative < 62


def test_mastery_follows_the_truth() -> None:
    """Of a learner that gains up to .006 a version in a component: M lags ten versions."""
    trace = _run("dscl", plan=Plan(budget=50 * 512))
    assert np.abs(trace.held_K - trace.mastery_K).max() < 0.03
    assert trace.estimates is not None
    assert trace.estimates.held_VK[-1].tolist() == trace.held_K.tolist()
    lag_K = trace.held_K - trace.estimates.ema_VK[-1]
    assert lag_K.min() > -0.01
    assert 0.03 < lag_K.max() < 0.07


@pytest.mark.parametrize("budget", [0, 511, 513, -512])
def test_a_budget_is_whole_batches(budget: int) -> None:
    with pytest.raises(ValueError, match="multiple of 512"):
        Plan(budget=budget)


def test_the_arms_are_the_presets_and_the_oracles() -> None:
    assert strategy_names() == [*PRESETS, *ORACLES]
    assert make_arm("mixed_group", group_size=4) != make_arm("mixed_group")
    with pytest.raises(KeyError):
        make_arm("magic")
