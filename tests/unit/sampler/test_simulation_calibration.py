"""Forecasts of the simulated tasks: scores by hand, and that the model beats the flat prior."""

from __future__ import annotations

import numpy as np
import pytest

from etude_sampler.simulation import Plan
from etude_sampler.simulation.calibration import (
    FORECASTS,
    Forecasts,
    brier,
    forecast_run,
    reliability,
)


def _forecasts(chances: list[float], won: list[float]) -> Forecasts:
    """Every forecast says the same."""
    flags = np.zeros(len(won), dtype=np.bool_)
    return Forecasts(np.tile(np.array(chances)[:, None], (1, 4)), np.array(won), flags, flags)


def test_brier_is_the_mean_over_rollouts() -> None:
    # 1/4 of 8 right at .5: (2 x .25 + 6 x .25) / 8; all right at .9: .01
    assert brier(_forecasts([0.5, 0.9], [0.25, 1.0]))["etude"] == pytest.approx((0.25 + 0.01) / 2)


def test_reliability_has_the_bins_that_occur() -> None:
    bins = reliability(_forecasts([0.12, 0.18, 1.0], [0.0, 0.5, 1.0]), "truth")
    assert [one.num_groups for one in bins] == [2, 1]
    assert bins[0].forecast == pytest.approx(0.15)
    assert [one.observed for one in bins] == [0.25, 1.0]


def test_the_model_beats_the_flat_prior_where_nothing_was_seen() -> None:
    found = forecast_run(0, Plan(budget=512 * 60))
    unseen = brier(found.select(~found.is_seen_G))
    seen = brier(found.select(found.is_seen_G))
    assert unseen["flat prior"] == pytest.approx(0.25)
    assert unseen["etude"] < 0.75 * unseen["running mean"]
    assert seen["etude"] < 0.95 * min(seen["flat prior"], seen["running mean"])
    for scores in (unseen, seen):
        assert scores["truth"] == min(scores.values())
    # Of what no forecast chose, in every tenth, forecast and outcome are alike.
    control = found.select(found.is_control_G)
    assert 0.03 < found.is_control_G.mean() < 0.07
    for one in reliability(control, "etude", num_bins=3):
        assert one.forecast == pytest.approx(one.observed, abs=0.15)
    assert tuple(unseen) == FORECASTS


def test_only_etude_predicts() -> None:
    with pytest.raises(TypeError, match="only etude predicts"):
        forecast_run(0, Plan(budget=512), strategy="uniform")
