"""What is shown where the output is no terminal: one plain line every few seconds."""

from __future__ import annotations

from collections.abc import Sequence

from etude_proto.v1 import HistoryPoint

from .figures import clock, number, percent
from .session import Session
from .view import services
from .watch import Watcher

EVERY_S = 5.0


def status_line(session: Session, watcher: Watcher) -> str:
    """Where the run stands and what the services do."""
    told = " | ".join(f"{name}: {text}" for name, text in services(session, watcher).items())
    return f"[{clock(session.elapsed_s)}] step {watcher.seen.step} | {told}"


def step_line(point: HistoryPoint, lanes: Sequence[str]) -> str:
    """One finished step; slots in the order of the lanes."""
    components = " ".join(
        f"{name} {number(value)}" for name, value in point.mean_components.items()
    )
    mastery = " ".join(f"{name} {number(value)}" for name, value in point.mastery.items())
    shares = {name: point.lane_shares.get(name) for name in lanes}
    slots = " ".join(f"{name} {percent(value)}" for name, value in shares.items())
    informative = percent(point.num_informative / point.num_groups if point.num_groups else None)
    return (
        f"step {point.policy_version}: reward {number(point.mean_reward)} ({components}),"
        f" {informative} of {point.num_groups} groups informative; mastery {mastery}; slots {slots}"
    )


def event_line(point: HistoryPoint) -> str:
    """The same in short, for the list of events."""
    informative = percent(point.num_informative / point.num_groups if point.num_groups else None)
    parts = [
        f"step {point.policy_version}: reward {number(point.mean_reward)}",
        f"success {percent(point.success_rate)}",
        f"{informative} of {point.num_groups} groups informative",
    ]
    seconds = point.metrics.get("seconds_train")
    if seconds is not None:
        parts.append(f"trained {seconds:.1f} s")
    return ", ".join(parts)
