"""The mastery estimator in a small simulated learner: bias and error against the truth (3.4)."""

from __future__ import annotations

import numpy as np
import pytest

from etude_sampler.statistics import Floats
from support.learner import Learner, Trace, World

STILL = World(num_tasks=2000, batch=128, num_versions=120, batches_in_flight=1, skill_per_version=0)
RISING = World(
    num_tasks=2000, batch=128, num_versions=120, batches_in_flight=1, skill_per_version=0.03
)
SMALL = World(
    num_tasks=400, batch=32, num_versions=150, batches_in_flight=2, skill_per_version=0.02
)


def _estimates(trace: Trace) -> dict[str, Floats]:
    """Estimates [V, K] by the difference estimator and by the simpler ones it replaces."""
    rows: dict[str, list[list[float]]] = {"difference": [], "weights": [], "base": [], "plain": []}
    for version, folded in enumerate(trace.folds):
        values: dict[str, list[float]] = {name: [] for name in rows}
        for k in range(trace.truth_VK.shape[1]):
            here = ~np.isnan(folded.mean_NK[:, k])
            mean, prev, new = (
                column[here, k] for column in (folded.mean_NK, folded.prev_NK, folded.new_NK)
            )
            iota = folded.iota_N[here]
            total, num = trace.sums_VK[version, k], trace.counts_VK[version, k]
            base = (total - np.sum(new - prev)) / num
            values["difference"].append(base + np.sum(iota * (mean - prev)) / np.sum(iota))
            values["weights"].append(float(np.sum(iota * mean) / np.sum(iota)))
            values["base"].append(base)
            values["plain"].append(base + np.mean(mean - prev))
        for name, row in values.items():
            rows[name].append(row)
    return {name: np.array(row) for name, row in rows.items()}


def _bias_and_error(estimate_VK: Floats, truth_VK: Floats) -> tuple[float, float]:
    """Largest bias and root mean square error of a component, past the first third."""
    late = slice(len(truth_VK) // 3, None)
    error_VK = (estimate_VK - truth_VK)[late]
    bias = float(np.abs(error_VK.mean(axis=0)).max())
    return bias, float(np.sqrt((error_VK**2).mean(axis=0)).max())


@pytest.mark.parametrize(
    ("world", "largest_bias", "largest_error"),
    [(STILL, 0.01, 0.03), (RISING, 0.012, 0.03), (SMALL, 0.02, 0.045)],
)
def test_bias_and_error_stay_small(world: World, largest_bias: float, largest_error: float) -> None:
    trace = Learner(world, seed=1).run()
    bias, error = _bias_and_error(_estimates(trace)["difference"], trace.truth_VK)
    assert bias < largest_bias
    assert error < largest_error


@pytest.mark.no_cover
def test_it_beats_what_it_replaces() -> None:
    """Less noise than importance alone, less lag than stored EMAs, less bias than equal groups."""
    still = Learner(STILL, seed=2).run()
    error = {
        name: _bias_and_error(estimate, still.truth_VK)[1]
        for name, estimate in _estimates(still).items()
    }
    assert error["difference"] < 0.85 * error["weights"]
    rising = Learner(RISING, seed=2).run()
    bias = {
        name: _bias_and_error(estimate, rising.truth_VK)[0]
        for name, estimate in _estimates(rising).items()
    }
    assert bias["difference"] < 0.1 * bias["base"]
    assert bias["difference"] < 0.5 * bias["plain"]


@pytest.mark.no_cover
def test_the_allocator_follows_its_own_estimates() -> None:
    """M is the EMA (b = .1) of the clipped estimates; its standard errors are honest."""
    trace = Learner(STILL, seed=3).run()
    estimates = np.clip(_estimates(trace)["difference"], 0.0, 1.0)
    expected = estimates[0]
    for estimate, mastery in zip(estimates, trace.mastery_VK, strict=True):
        expected = estimate if estimate is estimates[0] else 0.9 * expected + 0.1 * estimate
        assert mastery == pytest.approx(expected, abs=1e-9)
        expected = mastery
    late = slice(len(estimates) // 3, None)
    z_VK = (estimates - trace.truth_VK)[late] / trace.error_VK[late]
    assert np.all((np.sqrt((z_VK**2).mean(axis=0)) > 0.6) & (np.sqrt((z_VK**2).mean(axis=0)) < 1.6))


def test_conservation_in_a_run() -> None:
    learner = Learner(SMALL, seed=4)
    learner.run()
    waiting = learner.lanes.races[0].num_waiting
    assert waiting == SMALL.num_tasks - SMALL.batches_in_flight * SMALL.batch
    for race in learner.lanes.races:
        assert race.total == race.weights_N.sum()
        assert race.num_waiting <= waiting
