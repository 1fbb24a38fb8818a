"""The demo's result: numbers as JSON, curves as PNG. Steps come from the sampler's history."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import matplotlib as mpl
from demo_children import Child
from demo_watch import Watch

mpl.use("Agg")
import matplotlib.pyplot as plt


def write_json(
    path: Path, watch: Watch, children: list[Child], *, seconds: float
) -> dict[str, object]:
    """Write and return the numbers."""
    view = watch.curriculum
    step = watch.trainer.get("last_step")
    num_steps = max(1, len(watch.history))
    summary: dict[str, object] = {
        "run": watch.run.id,
        "preset": watch.run.resolved.preset,
        "policy_version": watch.run.policy_version if view is None else view.policy_version,
        "seconds": round(seconds, 1),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "restarts": {child.name: child.num_restarts for child in children},
        "steps": [point.model_dump(mode="json") for point in watch.history],
        "rollout_seconds_per_step": {k: v / num_steps for k, v in watch.seconds.items()},
        "trainer_seconds_last_step": step.get("seconds") if isinstance(step, dict) else None,
        "parity_gap": watch.rollout.get("parity_gap"),
    }
    if view is not None:
        counts = view.counts
        total = counts.num_waiting + counts.num_leased + counts.num_parked
        summary["counts"] = counts.model_dump(mode="json")
        summary["conservation_holds"] = total == counts.num_tasks
        summary["arms"] = [arm.model_dump(mode="json") for arm in view.arms]
    path.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return summary


def write_plot(path: Path, watch: Watch) -> None:
    """Reward components, mastery and slots per lane over steps."""
    history = watch.history
    steps = [point.policy_version for point in history]
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), constrained_layout=True)
    curves = (
        ("reward components (mean of a step's groups)", "mean_components"),
        ("mastery (estimate over all tasks)", "mastery"),
        ("share of slots by lane", "lane_shares"),
    )
    for axis, (title, name) in zip(axes, curves, strict=True):
        keys = list(dict.fromkeys(key for point in history for key in getattr(point, name)))
        for key in keys:
            values = [getattr(point, name).get(key) for point in history]
            axis.plot(steps, [float("nan") if v is None else v for v in values], label=key, lw=1.8)
        axis.set(title=title, xlabel="policy version", ylim=(0, 1.02))
        axis.grid(alpha=0.3)
        if keys:
            axis.legend(fontsize=8, loc="best")
    preset = watch.run.resolved.preset
    figure.suptitle(f"{watch.run.name}: preset {preset}, {len(history)} policy versions")
    figure.savefig(path, dpi=110)
    plt.close(figure)
