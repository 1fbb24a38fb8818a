"""What `etude watch` shows of a run: changes as lines, everything as a picture. No clock, no I/O.

`watch_cli` looks and prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from etude_proto.v1 import CurriculumView, LaneView, Run, RunStatus, SubtaskView

from .arms_cli import arm_lines

_BAR = 16
_RATE_OVER_S = 120.0


@dataclass(frozen=True, slots=True)
class Look:
    """A run at one moment."""

    at: datetime
    run: Run
    view: CurriculumView

    def level(self) -> dict[str, float]:
        """Mastery by sub-task, as of now where it is known."""
        levels = {}
        for one in self.view.subtasks:
            level = one.mastery if one.mastery_now is None else one.mastery_now
            if level is not None:
                levels[one.name] = level
        return levels

    def informative(self) -> float | None:
        """Share of all groups whose reward varied."""
        num = sum(arm.num_groups for arm in self.view.arms)
        return sum(arm.num_informative for arm in self.view.arms) / num if num else None


@dataclass(slots=True)
class Watched:
    """What was seen so far, and when to end."""

    until_version: int | None = None
    once: bool = False
    trouble: str | None = None
    """Why the last look saw nothing."""
    first: Look | None = None
    last: Look | None = None
    _recent: list[Look] = field(default_factory=list)

    def is_over(self, look: Look) -> bool:
        """Whether this look is the last one wanted."""
        reached = self.until_version is not None
        reached = reached and look.run.policy_version >= (self.until_version or 0)
        return self.once or reached

    def changed(self, look: Look) -> bool:
        """Take a look in; whether something that a line shows is new."""
        before, self.last = self.last, look
        self.first = self.first or look
        kept = [one for one in self._recent if (look.at - one.at).total_seconds() <= _RATE_OVER_S]
        self._recent = [*(kept or self._recent[-1:]), look]
        return before is None or _marks(before) != _marks(look)

    def rate(self) -> float | None:
        """Groups a minute, over the last two minutes."""
        if len(self._recent) < 2:
            return None
        old, new = self._recent[0], self._recent[-1]
        seconds = (new.at - old.at).total_seconds()
        num = new.view.num_groups_applied - old.view.num_groups_applied
        return 60.0 * num / seconds if seconds > 0 and num >= 0 else None

    def line(self, look: Look) -> str:
        """A look as a line."""
        view, counts = look.view, look.view.counts
        words = [
            look.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            look.run.name,
            look.run.status,
            f"version {look.run.policy_version}",
            f"groups {view.num_groups_applied}",
        ]
        share = look.informative()
        if share is not None:
            words.append(f"informative {share:.1%}")
        words += [f"leased {counts.num_leased}", f"ready {counts.num_ready_groups}"]
        if view.loading is not None:
            words.append(f"loading {view.loading.share:.0%}")
        levels = ", ".join(f"{name} {level:.3f}" for name, level in look.level().items())
        return "  ".join([*words, *([f"mastery {levels}"] if levels else [])])

    def picture(self, *, every_s: float) -> Group:
        """The newest look in full."""
        look = self.last
        assert look is not None
        parts: list[Text | Table] = [_head(look), _flow(look, self.rate())]
        if look.view.loading is not None:
            share = f"{look.view.loading.share:.0%}"
            parts.append(Text(f"not served: Redis is loaded anew, {share} is there", "yellow"))
        parts.append(_lanes(look, self.first or look))
        if look.view.arms_overall is not None:
            lines = arm_lines("since the beginning, with 95 % intervals", look.view.arms_overall)
            parts += [Text(line) for line in lines]
        at = look.at.astimezone().strftime("%H:%M:%S")
        if self.trouble is None:
            parts.append(Text(f"{at}, every {every_s:g} s; Ctrl-C ends", "dim"))
        else:
            parts.append(Text(f"as of {at}; no answer, asking on: {self.trouble}", "bold red"))
        return Group(*parts)


def _marks(look: Look) -> tuple[object, ...]:
    view = look.view
    loading = None if view.loading is None else view.loading.share
    return (look.run.status, look.run.policy_version, view.num_groups_applied, loading)


def _head(look: Look) -> Text:
    run = look.run
    style = "green" if run.status is RunStatus.ACTIVE else "yellow"
    return Text.assemble(
        (run.name, "bold"),
        f"  {run.id}  ",
        (run.status, style),
        f"  {run.resolved.preset}  {run.num_tasks:,} tasks  G {run.group_size}  ",
        (f"version {run.policy_version}", "bold"),
    )


def _flow(look: Look, rate: float | None) -> Text:
    counts, share = look.view.counts, look.informative()
    done = f"groups {look.view.num_groups_applied:,}"
    done += "" if rate is None else f" ({rate:.1f} a minute)"
    done += "" if share is None else f", {share:.1%} informative"
    return Text(
        f"{done}\n"
        f"tasks {counts.num_waiting:,} waiting, {counts.num_leased:,} leased by "
        f"{counts.num_prompt_leases} batches, {counts.num_parked:,} parked\n"
        f"ready {counts.num_ready_groups} groups, {counts.cargo_bytes / 1e6:.1f} MB; in training "
        f"{counts.num_training_groups}; expired {counts.num_expired}, too late "
        f"{look.view.num_groups_late}, too stale {counts.num_purged}"
    )


def _bar(share: float) -> str:
    full = round(_BAR * min(max(share, 0.0), 1.0))
    return "█" * full + "░" * (_BAR - full)


def _lanes(look: Look, first: Look) -> Table:
    since = first.at.astimezone().strftime("%H:%M")
    table = Table(
        *(Column("lane", no_wrap=True), "slots", "waiting", "mastery"),
        Column(f"since {since}", justify="right"),
        box=None,
    )
    named = {one.name: one for one in look.view.subtasks}
    began = first.level()
    for lane in look.view.lanes:
        table.add_row(*_lane_row(lane, named.get(lane.name), look.level(), began))
    return table


def _lane_row(
    lane: LaneView, one: SubtaskView | None, levels: dict[str, float], began: dict[str, float]
) -> list[str]:
    slots = f"{_bar(lane.share)} {lane.share:5.1%}"
    level = levels.get(lane.name)
    if one is None or level is None:
        return [lane.name, slots, f"{lane.num_waiting:,}", "-", ""]
    grown = f"{level - began[lane.name]:+.3f}" if lane.name in began else ""
    return [lane.name, slots, f"{lane.num_waiting:,}", f"{_bar(level)} {level:.3f}", grown]
