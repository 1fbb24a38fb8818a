"""The curves of `etude simulate --plot`: success against rollouts and against steps.

Needs matplotlib (`pip install etude-sampler[demo]`), which nothing else here needs. Neighbour:
`simulate_cli`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .simulation import Outcome, t_quantile
from .statistics import Floats


class PlotFault(Exception):
    """No plot can be drawn."""


def check_plot(path: Path) -> None:
    """Find out before the work whether a plot can be drawn.

    Raises:
        PlotFault: matplotlib is missing, or the file cannot be written there.
    """
    if find_spec("matplotlib") is None:
        raise PlotFault("--plot needs matplotlib: pip install 'etude-sampler[demo]'")
    if path.suffix.lower() != ".png":
        raise PlotFault(f"--plot {path}: the file's name must end in .png")
    if not path.parent.is_dir() or path.is_dir():
        raise PlotFault(f"--plot {path}: no such folder, or the name of one")


def plot(outcomes: Sequence[Outcome], path: Path, *, target: float, note: str) -> None:
    """Mean curves with 95 % intervals over seeds, against both axes, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    by_rollouts, by_steps = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(one.strategy for one in outcomes))
    for place, name in enumerate(names):
        runs = [one for one in outcomes if one.strategy == name]
        style = "--" if name.startswith("oracle") else "-"
        line = {"color": f"C{place % 10}", "linestyle": ":" if place >= 10 else style}
        steps = np.arange(min(int(one.steps_B[-1]) for one in runs) + 1)
        stepwise = [np.interp(steps, one.steps_B, one.success_B) for one in runs]
        for axes, x, curves in (
            (by_rollouts, runs[0].rollouts_B, [one.success_B for one in runs]),
            (by_steps, steps, stepwise),
        ):
            mean, half = band(np.stack(curves))
            axes.plot(x, mean, label=name, **line)
            axes.fill_between(x, mean - half, mean + half, color=line["color"], alpha=0.15, lw=0)
    for axes, label in ((by_rollouts, "rollouts spent"), (by_steps, "training steps")):
        axes.axhline(target, color="0.6", linewidth=0.8)
        axes.set_xlabel(label)
        axes.grid(alpha=0.2)
    by_rollouts.set_ylabel("true mean success over sound tasks")
    by_rollouts.legend(fontsize="small")
    figure.suptitle(note, fontsize="medium")
    figure.savefig(path, dpi=120)


def band(curves_SB: Floats) -> tuple[Floats, Floats]:
    """Mean [B] over S seeds and half the width of its 95 % interval; 0 for one seed."""
    mean_B: Floats = curves_SB.mean(axis=0)
    num = len(curves_SB)
    if num == 1:
        return mean_B, np.zeros_like(mean_B)
    half_B: Floats = t_quantile(num - 1) * curves_SB.std(axis=0, ddof=1) / np.sqrt(num)
    return mean_B, half_B
