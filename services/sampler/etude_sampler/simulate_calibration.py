"""`etude simulate --calibration`: how well preset `etude` predicts the simulated tasks.

Brier scores beside simpler forecasts, and forecast against outcome in tenths; tables, one JSON
object, or a plot. Neighbours: `simulation.calibration` makes the forecasts, `simulate_cli` asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from .simulation import Estimate, Plan, estimate
from .simulation.calibration import FORECASTS, Bin, Forecasts, brier, forecast_run, reliability

GROUPS: Mapping[str, Callable[[Forecasts], Forecasts]] = {
    "unseen, control arm": lambda f: f.select(~f.is_seen_G & f.is_control_G),
    "seen, control arm": lambda f: f.select(f.is_seen_G & f.is_control_G),
    "unseen, all": lambda f: f.select(~f.is_seen_G),
    "seen, all": lambda f: f.select(f.is_seen_G),
}
"""The control arm is what no forecast chose; all groups were mostly chosen as hard to call."""


def forecast_all(num_seeds: int, plan: Plan, *, workers: int) -> list[Forecasts]:
    """The forecasts of a run of `etude` on each seed."""
    run = partial(forecast_run, plan=plan)
    if workers == 1:
        return [run(seed) for seed in range(num_seeds)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run, range(num_seeds)))


def _rows(runs: Sequence[Forecasts]) -> Iterator[tuple[str, int, list[Estimate]]]:
    """Name, number of groups, and the Brier score of each forecast, over seeds."""
    for name, some in GROUPS.items():
        chosen = [some(run) for run in runs]
        scores = [brier(one) if len(one.won_G) else None for one in chosen]
        estimates = [
            estimate([None if score is None else score[forecast] for score in scores])
            for forecast in FORECASTS
        ]
        yield name, sum(len(one.won_G) for one in chosen), estimates


def _bins(runs: Sequence[Forecasts]) -> dict[str, Sequence[Bin]]:
    """Reliability of `etude` in the control arm of all runs, of tasks unseen and seen."""
    chosen = [run.select(run.is_control_G) for run in runs]
    control = Forecasts(
        np.concatenate([one.chance_GF for one in chosen]),
        np.concatenate([one.won_G for one in chosen]),
        np.concatenate([one.is_seen_G for one in chosen]),
        np.concatenate([one.is_control_G for one in chosen]),
    )
    return {
        "unseen": reliability(control.select(~control.is_seen_G), "etude"),
        "seen": reliability(control.select(control.is_seen_G), "etude"),
    }


def document(runs: Sequence[Forecasts], *, plan: Plan, note: str) -> str:
    """What `--json` prints: Brier scores as `results`, and the reliability tables."""
    return json.dumps(
        {
            "note": note,
            "budget": plan.budget,
            "seeds": list(range(len(runs))),
            "results": [
                {
                    "groups": name,
                    "num_groups": num,
                    "brier": {
                        forecast: {
                            "mean": one.mean,
                            "ci95": None if one.low is None else [one.low, one.high],
                        }
                        for forecast, one in zip(FORECASTS, estimates, strict=True)
                    },
                }
                for name, num, estimates in _rows(runs)
            ],
            "reliability": {
                name: [
                    {
                        "forecast": one.forecast,
                        "observed": one.observed,
                        "num_groups": one.num_groups,
                    }
                    for one in found
                ]
                for name, found in _bins(runs).items()
            },
        }
    )


def show(runs: Sequence[Forecasts], *, note: str) -> None:
    """Three tables for people."""
    console = Console(width=110)
    console.print(note)
    table = Table("Brier score of success", "groups", *FORECASTS)
    for name, num, estimates in _rows(runs):
        table.add_row(name, f"{num:,}", *map(_text, estimates))
    console.print(table)
    for name, found in _bins(runs).items():
        table = Table(f"forecast, {name}, control arm", "observed", "groups")
        for one in found:
            table.add_row(f"{one.forecast:.2f}", f"{one.observed:.2f}", f"{one.num_groups:,}")
        console.print(table)


def _text(one: Estimate) -> str:
    if one.mean is None:
        return "-"
    half = "" if one.high is None else f" ± {one.high - one.mean:.3f}"
    return f"{one.mean:.3f}{half}"


def draw(runs: Sequence[Forecasts], path: Path) -> None:
    """Forecast against outcome in the control arm, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    for name, found in _bins(runs).items():
        axes.plot([b.forecast for b in found], [b.observed for b in found], "o-", label=name)
    axes.set_xlabel("forecast success")
    axes.set_ylabel("share of right rollouts")
    axes.legend()
    axes.set_title("simulated learner, control arm")
    figure.savefig(path, dpi=120)
