"""The demo's plot, `.etude/demo/summary.png`: reward components, mastery, slots over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "uniform": "#9aa0a6",
    "format": "#4c78a8",
    "tool_name": "#f58518",
    "param_name": "#54a24b",
    "param_value": "#b279a2",
}
Step = Mapping[str, object]
MANY_STEPS = 25
"""Above this, single steps are drawn thin under a running mean."""


def draw(path: Path, steps: Sequence[Step], *, title: str) -> None:
    """Write the picture. Where steps are many, a running mean lies over the steps' own values."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        4, 1, figsize=(11, 12), sharex=True, height_ratios=[3, 4, 4, 3], layout="constrained"
    )
    versions = [cast(int, step["policy_version"]) for step in steps]
    _rewards(axes[0], versions, steps)
    _components(axes[1], versions, steps)
    _mastery(axes[2], versions, steps)
    _slots(axes[3], versions, steps)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
    axes[3].set_xlabel("step (policy version)")
    axes[3].xaxis.get_major_locator().set_params(integer=True)
    if len(versions) > 1:
        axes[3].set_xlim(versions[0], versions[-1])
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _column(steps: Sequence[Step], table: str, name: str) -> list[float]:
    values = [cast(Mapping[str, float | None], step[table]).get(name) for step in steps]
    return [float("nan") if value is None else value for value in values]


def _names(steps: Sequence[Step], table: str) -> list[str]:
    return list(cast(Mapping[str, object], steps[-1][table])) if steps else []


def _running(values: Sequence[float], span: int) -> list[float]:
    """Mean over the last `span` values."""
    means = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - span) : end] if value == value]
        means.append(sum(known) / len(known) if known else float("nan"))
    return means


def _line(
    axes: Axes, versions: Sequence[int], values: Sequence[float], *, name: str, colour: str | None
) -> None:
    """The values; where there are many, thin, under their running mean."""
    if len(versions) <= MANY_STEPS:
        axes.plot(versions, values, "o-", markersize=3, label=name, color=colour)
        return
    span = max(5, len(versions) // 20)
    drawn = axes.plot(versions, values, linewidth=0.6, alpha=0.35, color=colour)
    axes.plot(versions, _running(values, span), linewidth=2, label=name, color=drawn[0].get_color())


def _rewards(axes: Axes, versions: Sequence[int], steps: Sequence[Step]) -> None:
    rewards = [cast(float | None, step["reward"]) for step in steps]
    values = [float("nan") if value is None else value for value in rewards]
    _line(axes, versions, values, name="reward", colour="black")
    axes.set_ylabel("mean reward")
    axes.set_title("reward of the step's rollouts (-3 to 4)", loc="left", fontsize=10)


def _components(axes: Axes, versions: Sequence[int], steps: Sequence[Step]) -> None:
    for name in _names(steps, "components"):
        values = _column(steps, "components", name)
        _line(axes, versions, values, name=name, colour=_COLOURS.get(name))
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("mean component")
    axes.set_title("reward components of the step's rollouts", loc="left", fontsize=10)


def _mastery(axes: Axes, versions: Sequence[int], steps: Sequence[Step]) -> None:
    for name in _names(steps, "mastery"):
        values = _column(steps, "mastery", name)
        style = ".-" if len(versions) <= MANY_STEPS else "-"
        colour = _COLOURS.get(name)
        axes.plot(versions, values, style, label=name, color=colour, linewidth=2)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("mastery")
    title = "mastery: estimated mean of the component over all tasks of the run"
    axes.set_title(title, loc="left", fontsize=10)


def _slots(axes: Axes, versions: Sequence[int], steps: Sequence[Step]) -> None:
    names = _names(steps, "lane_shares")
    if names:
        axes.stackplot(
            versions,
            [_column(steps, "lane_shares", name) for name in names],
            labels=names,
            colors=[_COLOURS.get(name, "#cccccc") for name in names],
            alpha=0.85,
        )
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of the slots")
    axes.set_title("slots per lane", loc="left", fontsize=10)
