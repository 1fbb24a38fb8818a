"""The two arms of a run in words, for `etude runs show`: one line each, and one verdict.

Reads the public API's `ArmsView`. Neighbours: `runs_cli` prints, `statistics.arms` computes.
"""

from __future__ import annotations

from typing import Protocol

from etude_proto.v1 import ArmFigures, ArmsView, Interval

NAMES = {
    "informative_share": "informative groups",
    "success_rate": "success",
    "mean_reward": "reward",
    "reward_per_1k_tokens": "reward per 1,000 tokens",
}
SHARES = ("informative_share", "success_rate")


class Estimated(Protocol):
    """An estimate with its interval, of the contract or of `statistics.arms`."""

    @property
    def mean(self) -> float | None:
        """The estimate."""

    @property
    def low(self) -> float | None:
        """Lower bound."""

    @property
    def high(self) -> float | None:
        """Upper bound."""


def arm_lines(title: str, arms: ArmsView) -> list[str]:
    """Both arms and what their difference shows."""
    lines = [f"{title}:"]
    for name, figures in (("control", arms.control), ("curriculum", arms.curriculum)):
        lines.append(f"  {name}: {_figures(figures)}")
    lines.append(f"  {_verdict(arms)}")
    return lines


def _figures(figures: ArmFigures) -> str:
    parts = [f"{figures.num_groups} groups"]
    for name, label in NAMES.items():
        one: Interval = getattr(figures, name)
        parts.append(f"{label} {shown(one, share=name in SHARES)}")
    return ", ".join(parts)


def shown(one: Estimated, *, share: bool, signed: bool = False) -> str:
    """An estimate with its interval: shares in per cent."""
    if one.mean is None:
        return "-"
    form = f"{{:{'+' if signed else ''}.{'1%' if share else '3f'}}}"
    mean = form.format(one.mean)
    if one.low is None or one.high is None:
        return mean
    return f"{mean} [{form.format(one.low)}, {form.format(one.high)}]"


def _verdict(arms: ArmsView) -> str:
    """What of the difference is more than chance."""
    if not arms.control.num_groups or not arms.curriculum.num_groups:
        return "difference: one arm has no groups yet"
    clear, open_ = [], []
    for name, label in NAMES.items():
        gap: Interval = getattr(arms.gap, name)
        if gap.low is None or gap.high is None or gap.low <= 0.0 <= gap.high:
            open_.append(label)
        else:
            found = shown(gap, share=name in SHARES, signed=True)
            clear.append(f"{label} {found}")
    if not clear:
        return "difference, curriculum less control: nothing is more than chance"
    rest = f"; not more than chance: {', '.join(open_)}" if open_ else ""
    return f"difference, curriculum less control: {'; '.join(clear)}{rest}"
