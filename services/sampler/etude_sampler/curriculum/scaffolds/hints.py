"""Scaffold `hints`: the least hint with which a failed task succeeds (Scaf-GRPO, section 6).

Level (c, l) shows items 1..l of tier c alone; levels are tried from the lowest, one rollout each,
and the first success takes the place of a failed rollout. The paper waits for 15 % of the steps;
where the next climb begins is our choice, and so are the words of the heading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from etude_proto.v1 import Hints, Ladder, Merge, Rung
from etude_sampler.curriculum.parts import Context, ScaffoldConfig
from etude_sampler.curriculum.scaffolding import Aid, Scaffolding, Served, Situation

from .plain import PlainScaffolding

ITEMS = 4
"""Items of a tier: tier c (from 0) has the levels 4 c + 1 .. 4 c + 4."""


def hint_levels(hints: Hints) -> list[tuple[int, list[str]]]:
    """Every level with the items that it shows, lowest first; a short tier lacks its upper ones."""
    return [
        (ITEMS * tier + shown, items[:shown])
        for tier, items in enumerate(hints.tiers)
        for shown in range(1, len(items) + 1)
    ]


def first_level(last_success: int | None, back: int) -> int:
    """Level at which a climb begins: `back` below the last success, or 1 (our choice)."""
    return 1 if last_success is None else max(1, last_success - back)


@dataclass(frozen=True, slots=True)
class HintScaffolding(PlainScaffolding):
    """Serves the levels from where the task may succeed."""

    start_version: int = 0
    back: int = 0
    at_once: bool = False
    heading: str = ""

    def serve(self, task: Situation) -> Served:
        """A ladder of the task's hints."""
        if task.version < self.start_version or task.aids.hints is None:
            return Served()
        levels = hint_levels(task.aids.hints)
        begin = first_level(task.last_success, self.back)
        rungs = [
            Rung(level=level, text=self._text(items)) for level, items in levels if level >= begin
        ]
        if not rungs:
            return Served()
        ladder = Ladder(
            kind=self.kind,
            merge=Merge.REPLACE_ONE,
            num_rollouts=1,
            at_once=self.at_once,
            rungs=rungs,
        )
        return Served(ladder=ladder)

    def _text(self, items: list[str]) -> str:
        numbered = [f"{number}. {item}" for number, item in enumerate(items, start=1)]
        return "\n".join([self.heading, *numbered])


class HintsConfig(ScaffoldConfig):
    """After a group without success: hints, least first; one hinted success joins the group."""

    name: ClassVar[str] = "hints"
    paper: ClassVar[str] = "Scaf-GRPO 2510.19807; where a climb begins is ours"
    state: ClassVar[str] = "statistics of the task at each level"
    aid: ClassVar[Aid | None] = "hints"

    start_version: int = Field(default=16, ge=0, le=1_000_000)
    """Policy version from which failed groups climb: about 15 % of a run of 105 steps."""
    back: int = Field(default=2, ge=0, le=12)
    """A climb begins so many levels below the task's last success."""
    at_once: bool = False
    """Roll all levels out in one go: faster, and dearer; the lowest success counts."""
    heading: str = Field(default="Hints for this request:", max_length=1024)
    """Line above the hints, at the end of the system text."""
    missing: Literal["refuse", "bare"] = "refuse"
    """Tasks without hints: `refuse` the run, or serve them `bare`."""

    def build(self, context: Context) -> Scaffolding:
        """The scaffold."""
        return HintScaffolding(
            kind=self.name,
            aid=self.aid,
            needs_history=True,
            start_version=self.start_version,
            back=self.back,
            at_once=self.at_once,
            heading=self.heading,
        )
