"""How well `etude` predicts the success of the simulated tasks, beside simpler forecasts (ours).

Every group is forecast before it is rolled out, by what is known then. Neighbours: `practice` runs
the arm, `curriculum.prediction` is the model; `etude simulate --calibration` prints what is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etude_sampler.curriculum import at_pace
from etude_sampler.curriculum.weighers.etude import EtudeWeigher
from etude_sampler.leasing import Drawn
from etude_sampler.statistics import Bools, Floats, OutcomeArrays

from .plan import Plan
from .practice import Practice
from .strategies import Arm, make_arm
from .world import World, make_world, true_success

PRIOR_STRENGTH = 8.0
"""Rollouts that the fitted prior counts for (section 1.1's cap)."""
FORECASTS = ("flat prior", "running mean", "etude", "truth")
"""Beta(1, 1) and a task's counts; the mean of all groups so far and its counts; the model; the
true chance, scoring noise left out, which no forecast can beat by more than chance."""


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """G groups: what was forecast, and what came."""

    chance_GF: Floats
    """Success by each of `FORECASTS`."""
    won_G: Floats
    """Share of right rollouts."""
    is_seen_G: Bools
    """The task had been seen before."""
    is_control_G: Bools
    """Drawn by lane `uniform`: no forecast chose it."""

    def select(self, rows: Bools) -> Forecasts:
        """Some of the groups."""
        return Forecasts(
            self.chance_GF[rows], self.won_G[rows], self.is_seen_G[rows], self.is_control_G[rows]
        )


def forecast_run(seed: int, plan: Plan, *, strategy: str = "etude") -> Forecasts:
    """The forecasts of a run of `etude`, or of a strategy with its weigher, on one seed.

    Raises:
        TypeError: the strategy predicts nothing.
    """
    arm = make_arm(strategy, group_size=plan.group_size)
    run = _Watched(arm, make_world(seed), plan, seed=seed)
    run.run()
    parts = run.forecasts
    return Forecasts(
        np.concatenate([one.chance_GF for one in parts]),
        np.concatenate([one.won_G for one in parts]),
        np.concatenate([one.is_seen_G for one in parts]),
        np.concatenate([one.is_control_G for one in parts]),
    )


def brier(forecasts: Forecasts) -> Mapping[str, float]:
    """Mean over rollouts of `(success - p)^2`, by forecast; groups are of one size."""
    won_G1 = forecasts.won_G[:, None]
    score_GF = won_G1 * (1.0 - forecasts.chance_GF) ** 2 + (1.0 - won_G1) * forecasts.chance_GF**2
    return {name: float(score_GF[:, f].mean()) for f, name in enumerate(FORECASTS)}


@dataclass(frozen=True, slots=True)
class Bin:
    """Groups whose forecast was in a range."""

    forecast: float
    """Mean forecast."""
    observed: float
    """Share of right rollouts."""
    num_groups: int


def reliability(forecasts: Forecasts, name: str, *, num_bins: int = 10) -> Sequence[Bin]:
    """Forecast against observed success in bins of equal width; empty ones are left out."""
    chance_G = forecasts.chance_GF[:, FORECASTS.index(name)]
    bin_G = np.minimum((chance_G * num_bins).astype(np.int64), num_bins - 1)
    return [
        Bin(
            forecast=float(chance_G[bin_G == one].mean()),
            observed=float(forecasts.won_G[bin_G == one].mean()),
            num_groups=int(np.count_nonzero(bin_G == one)),
        )
        for one in np.unique(bin_G)
    ]


class _Watched(Practice):
    """A run that forecasts every group before it folds it."""

    def __init__(self, arm: Arm, world: World, plan: Plan, *, seed: int) -> None:
        super().__init__(arm, world, plan, seed=seed)
        self.forecasts: list[Forecasts] = []
        self._won, self._told = 0.0, 0.0

    def _report(
        self, drawn: Drawn, outcomes: OutcomeArrays, trained: OutcomeArrays
    ) -> tuple[Bools, Bools]:
        tasks_B = drawn.tasks_B
        stats = self._stats.select(tasks_B)
        won_B = outcomes.success_NG.mean(axis=1)
        mean = (self._won + 1.0) / (self._told + 2.0)
        count_B = stats.s_N + stats.f_N
        told = self._model().seeing(self._features_NF[tasks_B])
        success_N = told.predict(stats, self._active_NK[tasks_B]).joint.success_N
        forecast = Forecasts(
            chance_GF=np.stack(
                [
                    (stats.s_N + 1.0) / (count_B + 2.0),
                    (stats.s_N + PRIOR_STRENGTH * mean) / (count_B + PRIOR_STRENGTH),
                    success_N,
                    true_success(self._world, self._chances_NK)[tasks_B],
                ],
                axis=1,
            ),
            won_G=won_B,
            is_seen_G=stats.n_N > 0,
            is_control_G=drawn.lanes_B == 0,
        )
        self.forecasts.append(forecast)
        self._won += float(won_B.sum())
        self._told += len(won_B)
        return super()._report(drawn, outcomes, trained)

    def _model(self) -> EtudeWeigher:
        """The weigher at its pace."""
        weigher = at_pace(self._arm.curriculum, self._state.pace).weigher
        if not isinstance(weigher, EtudeWeigher):
            raise TypeError("only etude predicts")
        return weigher
