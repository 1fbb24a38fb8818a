"""The live view: one screen of a terminal, from 80 x 24 on. Reads, shows, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from etude_proto.v1 import CurriculumView, HistoryPoint
from etude_rollout.status import RolloutStatus
from etude_trainer.api.models import TrainerStatus
from etude_trainer.status import Stage

from .figures import bar, clock, curve, number, percent
from .session import Session
from .watch import Seen, Watcher

REWARD_RANGE = (-3.0, 4.0)
"""Of ToolRL's reward, for the curve."""
ROOMY = 100
"""From so many columns on, more is said."""
_STAGES = {
    Stage.STARTING: "starting",
    Stage.FETCH: "waiting for a full batch",
    Stage.TRAIN: "training",
    Stage.CHECKPOINT: "writing the checkpoint",
    Stage.PUBLISH: "publishing weights",
    Stage.ACK: "announcing the version",
    Stage.RECOVER: "standing where the run stands",
    Stage.STOPPED: "stopped",
    Stage.FAILED: "failed",
}


def render(session: Session, watcher: Watcher, *, width: int, height: int) -> Group:
    """The whole screen."""
    seen = watcher.seen
    columns = Table.grid(expand=True, padding=(0, 0))
    half = max(30, width // 2)
    columns.add_column(width=half)
    columns.add_column(ratio=1)
    columns.add_row(_rewards(seen, half - 4), _lanes(seen, width - half - 4))
    num_events = max(1, height - 20)
    return Group(
        _head(session, seen, width),
        columns,
        _services(session, watcher),
        _events(session, num_events),
    )


def _head(session: Session, seen: Seen, width: int) -> Table:
    options = session.options
    head = Table.grid(expand=True)
    head.add_column(ratio=1, no_wrap=True, overflow="crop")
    head.add_column(justify="right", no_wrap=True)
    engine: str = options.engine
    if seen.rollout is not None and seen.rollout.engine and width >= ROOMY:
        engine = seen.rollout.engine
    left = Text.assemble(
        (" Etude demo ", "bold reverse"), f" {options.profile.title}", (f" {engine}", "dim")
    )
    ends_s = session.stop_at_s - session.started_at_s
    right = Text.assemble(
        ("step ", "dim"),
        (f"{seen.step}", "bold"),
        f"  {clock(session.elapsed_s)}",
        (f" of {clock(ends_s)}", "dim"),
    )
    head.add_row(left, right)
    return head


def _rewards(seen: Seen, width: int) -> Panel:
    history = seen.history
    first, last = (history[0], history[-1]) if history else (None, None)
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(width=13, no_wrap=True)
    table.add_column(width=5, justify="right")
    table.add_column(width=5, justify="right")
    table.add_column(ratio=1, no_wrap=True)
    space = max(4, width - 27)
    now = seen.rollout.last_components if seen.rollout is not None else {}
    table.add_row(
        Text("mean of", style="dim"),
        Text("first", style="dim"),
        Text("last", style="dim"),
        Text("steps", style="dim"),
    )
    table.add_row(
        Text("reward", style="bold"),
        number(first.mean_reward if first else None),
        Text(number(last.mean_reward if last else None), style="bold"),
        Text(
            curve(
                [p.mean_reward for p in history], space, low=REWARD_RANGE[0], high=REWARD_RANGE[1]
            ),
            style="green",
        ),
    )
    for name in _components(seen, now):
        values = [point.mean_components.get(name) for point in history]
        table.add_row(
            f"  {name}",
            number(values[0] if values else None),
            number(values[-1] if values else None),
            Text(curve(values, space, low=0.0, high=1.0), style="cyan"),
        )
    successes = [point.success_rate for point in history]
    table.add_row(
        "success",
        percent(successes[0] if successes else None),
        percent(successes[-1] if successes else None),
        Text(curve(successes, space, low=0.0, high=1.0), style="cyan"),
    )
    shares = [_informative(point) for point in history]
    table.add_row(
        "informative",
        percent(shares[0] if shares else None),
        percent(shares[-1] if shares else None),
        Text(curve(shares, space, low=0.0, high=1.0), style="magenta"),
    )
    return Panel(table, title="reward by component", title_align="left", border_style="dim")


def _components(seen: Seen, now: dict[str, float]) -> Sequence[str]:
    if seen.curriculum is not None:
        return [subtask.name for subtask in seen.curriculum.subtasks]
    return list(now)


def _informative(point: HistoryPoint) -> float | None:
    return point.num_informative / point.num_groups if point.num_groups else None


def _lanes(seen: Seen, width: int) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    space = max(3, width - 34)
    table.add_column(width=11, no_wrap=True)
    table.add_column(width=space + 5, no_wrap=True)
    table.add_column(width=5, justify="right")
    table.add_column(width=4, justify="right")
    table.add_column(width=4, justify="right")
    names = ("lane", "mastery", "slots", "w", "last")
    table.add_row(*(Text(name, style="dim") for name in names))
    curriculum = seen.curriculum
    last = seen.history[-1] if seen.history else None
    mastery = {one.name: one for one in curriculum.subtasks} if curriculum else {}
    for lane in curriculum.lanes if curriculum else []:
        one = mastery.get(lane.name)
        level = None if one is None else one.mastery
        known = f"{number(level)} {bar(level, space)}" if one is not None else ""
        table.add_row(
            lane.name,
            Text(known, style="blue"),
            percent(lane.share),
            "" if one is None else number(one.component_weight),
            "-" if last is None else str(last.lane_groups.get(lane.name, 0)),
        )
    return Panel(
        Group(table, *_arms(curriculum)),
        title="mastery and slots",
        title_align="left",
        border_style="dim",
    )


def _arms(curriculum: CurriculumView | None) -> list[Text]:
    if curriculum is None:
        return []
    return [
        Text(
            f"{arm.arm.value}: {percent(arm.informative_share)} of {arm.num_groups} informative",
            style="dim",
        )
        for arm in curriculum.arms
    ]


def _services(session: Session, watcher: Watcher) -> Panel:
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    table.add_column(width=8)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for name, told in services(session, watcher).items():
        table.add_row(Text(name, style="bold"), told)
    return Panel(table, title="services", title_align="left", border_style="dim")


def services(session: Session, watcher: Watcher) -> dict[str, str]:
    """What every service is doing, in one line each."""
    seen = watcher.seen
    return {
        "sampler": _sampler(session, watcher),
        "rollout": _rollout(seen.rollout) or session.state_of("rollout"),
        "trainer": _trainer(seen.trainer) or session.state_of("trainer"),
    }


def _sampler(session: Session, watcher: Watcher) -> str:
    seen = watcher.seen
    if seen.curriculum is None or not seen.sampler_answers:
        return session.state_of("sampler")
    counts, check = seen.curriculum.counts, watcher.conservation
    verdict = "ok" if not check.num_failed else f"FAILED: {check.last_failure}"
    return (
        f"{counts.num_waiting} waiting + {counts.num_leased} leased of {counts.num_tasks} tasks"
        f" ({verdict}) · {counts.num_ready_groups} ready, {counts.num_training_groups} in training"
    )


def _rollout(status: RolloutStatus | None) -> str | None:
    if status is None:
        return None
    gap = "" if status.parity_gap is None else f" · parity {status.parity_gap:.0e}"
    return (
        f"{status.detail} · {status.tokens_per_s:.0f} tok/s{gap} · {status.num_rollouts} rollouts"
    )


def _trainer(status: TrainerStatus | None) -> str | None:
    if status is None:
        return None
    doing = _STAGES[status.stage]
    if status.stage is Stage.TRAIN and status.num_micro_batches:
        doing += f", pass {status.num_micro_batches_done + 1} of {status.num_micro_batches}"
    if status.detail:
        doing += f" ({status.detail})"
    last = status.last_step
    speed = "" if last.tokens_per_s is None else f" · {last.tokens_per_s:.0f} tok/s"
    took = last.seconds.get("train")
    told = "" if took is None else f" · last step {took:.1f} s"
    return f"{doing}, {status.stage_seconds:.0f} s{speed}{told}"


def _events(session: Session, num_lines: int) -> Panel:
    lines = [
        Text.assemble((f"{when}  ", "dim"), what, no_wrap=True, overflow="ellipsis")
        for when, what in list(session.events)[-num_lines:]
    ]
    title = f"events · Ctrl-C ends it · {session.places.sampler_url}/ shows more"
    return Panel(Group(*lines), title=title, title_align="left", border_style="dim")
