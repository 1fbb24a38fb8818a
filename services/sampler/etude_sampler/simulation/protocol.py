"""How strategies are compared: equal budgets, shared worlds, paired seeds (algorithms.md 11, ours).

A claim needs an interval that excludes 0. Neighbours: `metrics` measures a run; the command
`etude simulate` spreads the runs over processes and prints what is found here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from etude_sampler.statistics import Floats, Ints

from .metrics import Metrics, measure
from .plan import Plan
from .practice import Practice
from .strategies import BASELINE, ORACLES, make_arm
from .world import make_world

NUM_SEEDS = 10
"""Fewest seeds of a comparison that is worth reporting."""
GAPS: Mapping[str, float] = MappingProxyType({"rollouts_to_target": -1.0, "area_under_curve": 1.0})
"""Metrics by which the share of the gap to the better oracle is stated; -1: less is better."""
# Student's t, 97.5 %, by degrees of freedom from 1 (standard tables).
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One strategy on one seed."""

    strategy: str
    seed: int
    metrics: Metrics
    rollouts_B: Ints
    steps_B: Ints
    success_B: Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with its 95 % interval; None: unknown."""

    mean: float | None
    low: float | None
    high: float | None
    num_seeds: int
    """Seeds that have a value; with fewer than all, mean and interval are not imputed: None."""
    values: tuple[float | None, ...]
    """By seed."""


@dataclass(frozen=True, slots=True)
class Result:
    """A strategy over all seeds."""

    strategy: str
    metrics: Mapping[str, Estimate]
    versus_baseline: Mapping[str, Estimate]
    """Paired differences to `uniform`, strategy less baseline."""
    gap_closed: Mapping[str, Estimate]
    """Share of the way from `uniform` to the better oracle, by metric, paired."""


def simulate(strategy: str, seed: int, plan: Plan) -> Outcome:
    """Run one strategy on one seed.

    Raises:
        KeyError: there is no such strategy.
    """
    world = make_world(seed)
    arm = make_arm(strategy, group_size=plan.group_size, world=world, seed=seed)
    trace = Practice(arm, world, plan, seed=seed).run()
    metrics = measure(trace)
    return Outcome(strategy, seed, metrics, trace.rollouts_B, trace.steps_B, trace.success_B)


def arms_of(strategies: Sequence[str]) -> list[str]:
    """The asked strategies with `uniform` before and both oracles after them, each once."""
    asked = [name for name in strategies if name != BASELINE and name not in ORACLES]
    return [BASELINE, *dict.fromkeys(asked), *ORACLES]


def t_quantile(degrees: int) -> float:
    """97.5 % point of Student's t: a table to 30 degrees, then an expansion good to 1e-4."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = 1.959964
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    return z + first / degrees + second / degrees**2


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean and `mean +- t s / sqrt(n)` over seeds, s the sample deviation."""
    given = [value for value in values if value is not None]
    if len(given) < len(values) or not given:
        return Estimate(None, None, None, len(given), tuple(values))
    mean = math.fsum(given) / len(given)
    if len(given) == 1:
        return Estimate(mean, None, None, 1, tuple(values))
    half = t_quantile(len(given) - 1) * float(np.std(given, ddof=1)) / math.sqrt(len(given))
    return Estimate(mean, mean - half, mean + half, len(given), tuple(values))


def compare(outcomes: Sequence[Outcome]) -> list[Result]:
    """Estimates of every strategy, in the order of their first outcomes.

    Raises:
        ValueError: the baseline is missing, or strategies were run on different seeds.
    """
    runs: dict[str, dict[int, Metrics]] = {}
    for one in outcomes:
        runs.setdefault(one.strategy, {})[one.seed] = one.metrics
    if BASELINE not in runs:
        raise ValueError(f"no run of {BASELINE!r} to compare with")
    seeds = sorted(runs[BASELINE])
    if any(sorted(run) != seeds for run in runs.values()):
        raise ValueError("strategies were run on different seeds")

    def values(strategy: str, metric: str) -> list[float | None]:
        return [runs[strategy][seed][metric] for seed in seeds]

    names = list(runs[BASELINE][seeds[0]])
    base = {name: values(BASELINE, name) for name in names}
    bounds = {name: [values(oracle, name) for oracle in ORACLES if oracle in runs] for name in GAPS}
    return [
        Result(
            strategy=strategy,
            metrics={name: estimate(values(strategy, name)) for name in names},
            versus_baseline={
                name: estimate(_minus(values(strategy, name), base[name])) for name in names
            },
            gap_closed={
                name: estimate(
                    _share(values(strategy, name), base[name], _better(bounds[name], sign))
                )
                for name, sign in GAPS.items()
                if bounds[name]
            },
        )
        for strategy in runs
    ]


def _minus(values: Sequence[float | None], base: Sequence[float | None]) -> list[float | None]:
    """Differences; None where one of both is."""
    return [
        None if one is None or other is None else one - other
        for one, other in zip(values, base, strict=True)
    ]


def _share(
    values: Sequence[float | None], base: Sequence[float | None], bound: Sequence[float | None]
) -> list[float | None]:
    """`(value - base) / (bound - base)` seed by seed; None where unknown or without a gap."""
    return [
        None if mine is None or not gap else mine / gap
        for mine, gap in zip(_minus(values, base), _minus(bound, base), strict=True)
    ]


def _better(bounds: Sequence[Sequence[float | None]], sign: float) -> Sequence[float | None]:
    """The oracle whose mean, times `sign`, is largest; one that is unknown loses."""

    def merit(values: Sequence[float | None]) -> float:
        mean = estimate(values).mean
        return -math.inf if mean is None else sign * mean

    return max(bounds, key=merit)
