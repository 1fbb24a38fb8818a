"""What the cells of `real_learner.py` say: metrics of each, means over seeds, paired differences.

Intervals are 95 %, by Student's t over seeds; a difference is paired by seed, and one whose
interval holds 0 shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from real_cell import Cell

from etude_sampler.simulation.protocol import Estimate, estimate

BASELINE = "uniform"
METRICS = (
    "rollouts_to_target",
    "area_under_curve",
    "final_success",
    "final_greedy",
    "informative_share",
    "trained_share",
    "num_updates",
    "never_served",
    "success_after_updates",
)
UPDATES = 16
"""Updates after which success is compared, whatever they cost in rollouts."""
Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """One strategy over the seeds that it and the baseline were both run on."""

    strategy: str
    seeds: tuple[int, ...]
    metrics: Mapping[str, Estimate]
    versus_baseline: Mapping[str, Estimate]
    num_reached: int
    """Seeds that reached the target; those that did not are never imputed."""
    by_grade: Mapping[str, float]
    """Mean success at the end by grade of task."""

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "strategy": self.strategy,
            "seeds": list(self.seeds),
            "num_reached": self.num_reached,
            "by_grade": dict(self.by_grade),
            "metrics": {name: _document(one) for name, one in self.metrics.items()},
            "versus_uniform": {name: _document(one) for name, one in self.versus_baseline.items()},
        }


def _document(one: Estimate) -> dict[str, object]:
    interval = None if one.low is None else [one.low, one.high]
    return {"mean": one.mean, "ci95": interval, "values": list(one.values)}


def measure(cell: Cell, *, target: float) -> Values:
    """Metrics of a cell; shares are in [0, 1]."""
    rollouts_E = np.array([point.rollouts for point in cell.curve], dtype=np.float64)
    success_E = np.array([point.success for point in cell.curve])
    reached = np.flatnonzero(success_E >= target)
    return {
        "rollouts_to_target": float(rollouts_E[reached[0]]) if reached.size else None,
        "area_under_curve": float(np.trapezoid(success_E, rollouts_E)) / float(rollouts_E[-1]),
        "final_success": cell.curve[-1].success,
        "final_greedy": cell.curve[-1].greedy,
        "informative_share": cell.num_informative / cell.num_groups,
        "trained_share": cell.num_trained / cell.num_groups,
        "num_updates": float(cell.num_versions),
        "never_served": cell.never_served,
        "success_after_updates": _after(cell, UPDATES),
    }


def _after(cell: Cell, num_updates: int) -> float | None:
    """Success after so many updates, between two measurements; None if there were fewer."""
    versions = [point.version for point in cell.curve]
    if versions[-1] < num_updates:
        return None
    return float(np.interp(num_updates, versions, [point.success for point in cell.curve]))


def summarise(cells: Sequence[Cell], *, target: float) -> list[Summary]:
    """Every strategy, in the order of its first cell, the baseline first."""
    of: dict[str, dict[int, Cell]] = {}
    for cell in cells:
        of.setdefault(cell.arm, {})[cell.seed] = cell
    base = of.get(BASELINE, {})
    summaries = []
    for arm in sorted(of, key=lambda name: name != BASELINE):
        seeds = tuple(seed for seed in sorted(of[arm]) if seed in base)
        if not seeds:
            continue
        mine = [measure(of[arm][seed], target=target) for seed in seeds]
        theirs = [measure(base[seed], target=target) for seed in seeds]
        ends = [of[arm][seed].curve[-1].by_grade for seed in seeds]
        summaries.append(
            Summary(
                strategy=arm,
                seeds=seeds,
                metrics={name: estimate([one[name] for one in mine]) for name in METRICS},
                versus_baseline={
                    name: estimate(
                        [_minus(a[name], b[name]) for a, b in zip(mine, theirs, strict=True)]
                    )
                    for name in METRICS
                },
                num_reached=sum(one["rollouts_to_target"] is not None for one in mine),
                by_grade={name: float(np.mean([end[name] for end in ends])) for name in ends[0]},
            )
        )
    return summaries


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def table(summaries: Sequence[Summary]) -> str:
    """Two Markdown tables."""
    head = (
        "| strategy | seeds | area under curve | area - uniform | final success | final - uniform "
        "| greedy | rollouts to target |\n|---|---|---|---|---|---|---|---|"
    )
    rows = [
        "| `{}` | {} | {} | {} | {} | {} | {} | {} |".format(
            one.strategy,
            len(one.seeds),
            _plain(one.metrics["area_under_curve"]),
            _signed(one, "area_under_curve"),
            _plain(one.metrics["final_success"]),
            _signed(one, "final_success"),
            _plain(one.metrics["final_greedy"]),
            _reached(one),
        )
        for one in summaries
    ]
    more = (
        "| strategy | informative share | - uniform | trained share | updates "
        f"| success after {UPDATES} | never served "
        "| known | mixed | hard |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    lines = [
        "| `{}` | {} | {} | {} | {} | {} | {} | {} |".format(
            one.strategy,
            _plain(one.metrics["informative_share"]),
            _signed(one, "informative_share"),
            _plain(one.metrics["trained_share"]),
            f"{one.metrics['num_updates'].mean:.1f}",
            _plain(one.metrics["success_after_updates"]),
            _plain(one.metrics["never_served"]),
            " | ".join(f"{one.by_grade[name]:.3f}" for name in ("known", "mixed", "hard")),
        )
        for one in summaries
    ]
    return "\n".join([head, *rows, "", more, *lines])


def counts_table(cells: Sequence[Cell]) -> str:
    """What hard sampling and own examples did, means a cell, for arms with either; else empty."""
    of: dict[str, list[Mapping[str, int]]] = {}
    for cell in cells:
        if "rounds" in cell.counts:
            of.setdefault(cell.arm, []).append(cell.counts)
    if not of:
        return ""
    names = list(dict.fromkeys(name for told in of.values() for one in told for name in one))
    lines = [f"| a cell | {' | '.join(f'`{arm}`' for arm in of)} |", "|---" * (len(of) + 1) + "|"]
    for name in names:
        means = [
            f"{float(np.mean([one.get(name, 0) for one in told])):,.1f}" for told in of.values()
        ]
        lines.append(f"| {name} | {' | '.join(means)} |")
    return "\n".join(["", *lines])


def _plain(one: Estimate) -> str:
    if one.mean is None:
        return "-"
    half = "" if one.high is None else f" ± {one.high - one.mean:.3f}"
    return f"{one.mean:.3f}{half}"


def _signed(summary: Summary, metric: str) -> str:
    one = summary.versus_baseline[metric]
    if summary.strategy == BASELINE or one.mean is None:
        return "-"
    half = "" if one.high is None else f" ± {one.high - one.mean:.3f}"
    return f"{one.mean:+.3f}{half}"


def _reached(summary: Summary) -> str:
    one = summary.metrics["rollouts_to_target"]
    if one.mean is None:
        return f"reached by {summary.num_reached} of {len(summary.seeds)}"
    half = "" if one.high is None else f" ± {one.high - one.mean:,.0f}"
    return f"{one.mean:,.0f}{half}"
