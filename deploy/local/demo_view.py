"""The live terminal view: one screen, redrawn; or one line every few seconds without a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from demo_children import Child
from demo_watch import Watch
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BLOCKS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> str:
    """A row of blocks for the last values."""
    span = max(high - low, 1e-9)
    marks = [min(7, max(0, int((v - low) / span * 8))) for v in values[-24:]]
    return "".join(_BLOCKS[mark] for mark in marks)


def number(value: object, form: str = ".2f") -> str:
    """A number, or a dash."""
    return format(value, form) if isinstance(value, int | float) else "-"


def _mastery(watch: Watch) -> Table:
    table = Table("sub-task", "mastery", "over steps", "reward part", "w", "slots", expand=True)
    view = watch.curriculum
    if view is None:
        return table
    shares = {lane.name: lane.share for lane in view.lanes}
    last = watch.history[-1].mean_components if watch.history else {}
    for one in view.subtasks:
        past = [point.mastery[one.name] for point in watch.history if one.name in point.mastery]
        table.add_row(
            one.name,
            number(one.mastery),
            spark(past),
            number(last.get(one.name)),
            number(one.component_weight),
            f"{shares.get(one.name, 0.0):.0%}",
        )
    table.add_row("uniform (control)", "-", "", "-", "-", f"{shares.get('uniform', 0.0):.0%}")
    return table


def _run(watch: Watch, left_s: float) -> Table:
    table = Table.grid(padding=(0, 2))
    rewards = [p.mean_reward for p in watch.history if p.mean_reward is not None]
    step = watch.curriculum.policy_version if watch.curriculum else "-"
    low, high = (min(rewards), max(rewards)) if rewards else (0.0, 1.0)
    table.add_row("step", str(step), "time left", f"{left_s:.0f} s")
    table.add_row(
        "reward", number(rewards[-1] if rewards else None), spark(rewards, low=low, high=high), ""
    )
    if watch.curriculum is not None:
        counts = watch.curriculum.counts
        for arm in watch.curriculum.arms:
            share = "-" if arm.informative_share is None else f"{arm.informative_share:.0%}"
            table.add_row(f"{arm.arm} arm", f"{arm.num_groups} groups", f"{share} informative", "")
        table.add_row(
            "tasks",
            f"{counts.num_waiting} waiting",
            f"{counts.num_leased} leased",
            f"{counts.num_ready_groups} groups ready",
        )
    return table


def _services(watch: Watch, children: Sequence[Child]) -> Table:
    table = Table("service", "is", "what", expand=True)
    step = watch.trainer.get("last_step")
    trained = step.get("tokens_per_s") if isinstance(step, dict) else None
    what = {
        "sampler": f"{watch.curriculum.num_groups_applied} groups applied"
        if watch.curriculum
        else "not answering",
        "rollout": f"{watch.rollout.get('phase', 'not answering')}: "
        f"{watch.rollout.get('detail', '')} ({number(watch.rollout.get('tokens_per_s'), '.0f')} "
        f"tokens/s, parity {number(watch.rollout.get('parity_gap'), '.1e')})",
        "trainer": f"{watch.trainer.get('stage', 'not answering')}: "
        f"{watch.trainer.get('detail', '')} ({number(trained, '.0f')} tokens/s)",
    }
    for child in children:
        state = "up" if child.alive else "down"
        if child.num_restarts:
            state += f", restarted {child.num_restarts}x"
        table.add_row(child.name, state, what.get(child.name, ""))
    return table


def screen(watch: Watch, children: Sequence[Child], *, left_s: float, url: str) -> RenderableType:
    """Everything on one screen."""
    title = (
        f"etude demo: {watch.run.name} ({watch.run.resolved.preset}), {watch.run.num_tasks} tasks"
    )
    return Group(
        Panel(Columns([_run(watch, left_s)]), title=title, subtitle=f"{url}/  Ctrl-C stops"),
        _mastery(watch),
        _services(watch, children),
        Text("All numbers come from the services' own surfaces.", style="dim"),
    )


def line(watch: Watch, *, left_s: float) -> str:
    """One line, for logs and pipes."""
    point = watch.history[-1] if watch.history else None
    mastery = " ".join(f"{k}={v:.2f}" for k, v in point.mastery.items()) if point else "-"
    return (
        f"step {point.policy_version if point else 0}  "
        f"reward {number(point.mean_reward if point else None)}  mastery {mastery}  "
        f"rollout {watch.rollout.get('phase', '-')}  trainer {watch.trainer.get('stage', '-')}  "
        f"{number(watch.rollout.get('tokens_per_s'), '.0f')} tokens/s  {left_s:.0f} s left"
    )
