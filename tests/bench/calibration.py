"""How well preset `etude` predicts success, beside the flat prior, on the simulated learner.

    .venv/bin/python tests/bench/calibration.py [--seeds 10] [--plot reliability.png]

Brier scores of groups seen and unseen, all and those of the control arm (which no forecast chose),
with 95 % intervals over seeds; and forecast against outcome in tenths. About 7 s a seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from etude_sampler.simulate_plot import check_plot
from etude_sampler.simulation import Plan, estimate
from etude_sampler.simulation.calibration import (
    FORECASTS,
    Bin,
    Forecasts,
    brier,
    forecast_run,
    reliability,
)

ROWS: tuple[tuple[str, Callable[[Forecasts], Forecasts]], ...] = (
    ("unseen, control arm", lambda f: f.select(~f.is_seen_G & f.is_control_G)),
    ("seen, control arm", lambda f: f.select(f.is_seen_G & f.is_control_G)),
    ("unseen, all", lambda f: f.select(~f.is_seen_G)),
    ("seen, all", lambda f: f.select(f.is_seen_G)),
)


def show(runs: Sequence[Forecasts]) -> None:
    """The table of Brier scores."""
    print("| groups | number | " + " | ".join(FORECASTS) + " |")
    for name, some in ROWS:
        chosen = [some(run) for run in runs]
        scores = [brier(one) for one in chosen]
        cells = []
        for forecast in FORECASTS:
            one = estimate([score[forecast] for score in scores])
            half = 0.0 if one.low is None or one.high is None else (one.high - one.low) / 2
            cells.append(f"{one.mean:.3f} ± {half:.3f}")
        print(f"| {name} | {sum(len(one.won_G) for one in chosen):,} | " + " | ".join(cells) + " |")


def together(runs: Sequence[Forecasts]) -> Forecasts:
    """The control arms of all runs."""
    chosen = [run.select(run.is_control_G) for run in runs]
    return Forecasts(
        np.concatenate([one.chance_GF for one in chosen]),
        np.concatenate([one.won_G for one in chosen]),
        np.concatenate([one.is_seen_G for one in chosen]),
        np.concatenate([one.is_control_G for one in chosen]),
    )


def draw(path: Path, bins: dict[str, Sequence[Bin]]) -> None:
    """Forecast against outcome."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    for name, found in bins.items():
        axes.plot([b.forecast for b in found], [b.observed for b in found], "o-", label=name)
    axes.set_xlabel("forecast success")
    axes.set_ylabel("share of right rollouts")
    axes.legend()
    axes.set_title("simulated learner, control arm")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    if given.plot is not None:
        check_plot(given.plot)
    runs = [forecast_run(seed, Plan()) for seed in range(given.seeds)]
    show(runs)
    control = together(runs)
    for kind, rows in (("unseen", ~control.is_seen_G), ("seen", control.is_seen_G)):
        print(f"\n| forecast ({kind}, control arm) | observed | groups |")
        for one in reliability(control.select(rows), "etude"):
            print(f"| {one.forecast:.2f} | {one.observed:.2f} | {one.num_groups:,} |")
    if given.plot is not None:
        draw(
            given.plot,
            {
                "unseen": reliability(control.select(~control.is_seen_G), "etude"),
                "seen": reliability(control.select(control.is_seen_G), "etude"),
            },
        )


if __name__ == "__main__":
    main()
