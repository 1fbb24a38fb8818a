"""What a run leaves behind: `.etude/demo/summary.json`, and the words at the end.

All figures are the services': the sampler's history and task statistics, the trainer's journal,
the rollout service's times (`watch.StepClock`). Gathered while the sampler still serves.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from etude_client import EtudeClient
from etude_proto.v1 import CurriculumView, HistoryPoint, Run

from .figures import clock, number, percent
from .options import Options
from .session import Session
from .watch import Conservation

Json = Mapping[str, object]
SPLIT = ("generate", "score", "report", "train", "checkpoint", "publish", "ack")
"""Where the time of a step goes; generating and training go on side by side."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the loop ended."""

    reason: str
    conservation: Conservation
    clocked: Mapping[int, Mapping[str, float]]
    """The rollout service's times, step by step."""


def gather(client: EtudeClient, session: Session, ending: Ending) -> dict[str, object]:
    """Everything that `summary.json` holds.

    Raises:
        EtudeError: the sampler does not answer.
    """
    run = client.get_run(session.run_id)
    history = [point for point in client.iter_history(run.id) if point.policy_version > 0]
    curriculum = client.get_curriculum(run.id)
    seconds = step_seconds(session.options.data, run.id, ending.clocked)
    lanes = run.resolved.lanes
    steps = [_step(point, lanes, seconds.get(point.policy_version, {})) for point in history]
    resumed_at = session.resumed_at or 0
    return {
        "policy": session.options.policy,
        "model": session.options.profile.title,
        "engine": session.options.engine,
        "run": _run(run),
        "session": {
            "seconds": round(session.elapsed_s, 1),
            "ended_by": ending.reason,
            "first_step": resumed_at + 1,
            "num_steps": run.policy_version - resumed_at,
            "restarts": session.count_restarts(),
        },
        "first_and_last": _ends(history),
        "mean_step_seconds": _means(seconds),
        "steps": steps,
        "counts": curriculum.counts.model_dump(mode="json"),
        "arms": [arm.model_dump(mode="json") for arm in curriculum.arms],
        "audit": audit(client, run, history, curriculum=curriculum, ending=ending),
        "machine": machine(),
    }


def write(path: Path, summary: Json) -> None:
    """The file, replaced at once."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def step_seconds(
    data: Path, run_id: str, clocked: Mapping[int, Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    """Policy version -> seconds by activity: the trainer's journal and the rollout's clock.

    `generate` is wall time; steps that ran while no demo watched have the trainer's times only.
    """
    found: dict[int, dict[str, float]] = {}
    journal = data / "trainer" / run_id / "metrics.jsonl"
    lines = journal.read_text("utf-8").splitlines() if journal.is_file() else []
    for line in lines:
        record = json.loads(line)
        trained: dict[str, float] = record["seconds"]
        names = ("train", "checkpoint", "publish", "ack", "fetch")
        times = {name: trained[name] for name in names if name in trained}
        found[int(record["policy_version"])] = times
    for passed, spent in clocked.items():
        found.setdefault(passed, {}).update(spent)
    return found


def audit(
    client: EtudeClient,
    run: Run,
    history: Sequence[HistoryPoint],
    *,
    curriculum: CurriculumView,
    ending: Ending,
) -> dict[str, object]:
    """Was a task lost, was a group counted twice? From three views of the sampler."""
    visits = sum(
        task.statistics.num_groups for task in client.iter_tasks(run.id) if task.statistics
    )
    folded = sum(point.num_groups for point in history)
    applied = curriculum.num_groups_applied
    counts = curriculum.counts
    return {
        "conservation_checks": ending.conservation.num_checks,
        "conservation_failures": ending.conservation.num_failed,
        "tasks_accounted_for": counts.num_waiting + counts.num_leased == counts.num_tasks,
        "groups_applied": applied,
        "groups_in_task_statistics": visits,
        "groups_folded_into_steps": folded,
        "counted_once": visits == applied and folded <= applied,
        "groups_late": curriculum.num_groups_late,
    }


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    names = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def words(summary: Json, options: Options) -> str:
    """The end of the demo in a few lines."""
    session, ends = summary["session"], summary["first_and_last"]
    means, checks = summary["mean_step_seconds"], summary["audit"]
    assert isinstance(session, dict)
    assert isinstance(ends, dict)
    assert isinstance(means, dict)
    assert isinstance(checks, dict)
    last_step = session["first_step"] + session["num_steps"] - 1
    lines = [
        f"Ended by {session['ended_by']} after {clock(session['seconds'])}: "
        f"{session['num_steps']} steps, the run is at step {last_step}."
    ]
    for name, (first, last) in ends.items():
        form = percent if name in ("success", "informative") else number
        lines.append(f"  {name:<22} {form(first):>7} -> {form(last):>7}")
    if means:
        told = ", ".join(f"{name} {means[name]:.2f}" for name in SPLIT if name in means)
        lines.append(f"  seconds of a step      {told} (generating beside training)")
    kept = checks["tasks_accounted_for"] and not checks["conservation_failures"]
    lines += [
        f"  no task lost           {'yes' if kept else 'NO'}"
        f" ({checks['conservation_checks']} checks)",
        f"  no group counted twice {'yes' if checks['counted_once'] else 'NO'}"
        f" ({checks['groups_applied']} groups)",
        f"Figures in {options.demo_dir / 'summary.json'}, plot in "
        f"{options.demo_dir / 'summary.png'}; `make demo` goes on from here.",
    ]
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError:
        return []


def _run(run: Run) -> dict[str, object]:
    return {
        "id": run.id,
        "name": run.name,
        "preset": run.curriculum.preset,
        "group_size": run.group_size,
        "training_batch_groups": run.limits.training_batch_groups,
        "num_tasks": run.num_tasks,
        "policy_version": run.policy_version,
    }


def _step(
    point: HistoryPoint, lanes: Sequence[str], seconds: Mapping[str, float]
) -> dict[str, object]:
    """One step; tables by lane or sub-task in the run's own order."""

    def ordered(table: Mapping[str, float]) -> dict[str, float]:
        return {name: table[name] for name in lanes if name in table}

    return {
        "policy_version": point.policy_version,
        "at": point.created_at,
        "reward": point.mean_reward,
        "components": ordered(point.mean_components),
        "success": point.success_rate,
        "num_groups": point.num_groups,
        "num_informative": point.num_informative,
        "mastery": ordered(point.mastery),
        "component_weights": ordered(point.component_weights),
        "lane_shares": ordered(point.lane_shares),
        "lane_groups": ordered(point.lane_groups),
        "num_tokens": point.num_tokens,
        "seconds": dict(seconds),
        "trainer": point.metrics,
    }


def _ends(history: Sequence[HistoryPoint]) -> dict[str, tuple[float | None, float | None]]:
    """Means over the first and the last fifth of the steps (one step at least)."""
    if not history:
        return {}
    num = max(1, len(history) // 5)
    ends = history[:num], history[-num:]

    def both(values: Sequence[Sequence[float | None]]) -> tuple[float | None, float | None]:
        first, last = (_mean(part) for part in values)
        return first, last

    found = {
        "reward": both([[point.mean_reward for point in part] for part in ends]),
        "success": both([[point.success_rate for point in part] for part in ends]),
        "informative": both(
            [
                [p.num_informative / p.num_groups if p.num_groups else None for p in part]
                for part in ends
            ]
        ),
    }
    for name in history[-1].mean_components:
        found[f"component {name}"] = both(
            [[point.mean_components.get(name) for point in part] for part in ends]
        )
    for name in history[-1].mastery:
        found[f"mastery {name}"] = both(
            [[point.mastery.get(name) for point in part] for part in ends]
        )
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _means(seconds: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Mean of every activity over the steps that know it."""
    means: dict[str, float] = {}
    for name in (*SPLIT, "fetch", "load"):
        known = [times[name] for times in seconds.values() if name in times]
        if known:
            means[name] = round(sum(known) / len(known), 4)
    return means
