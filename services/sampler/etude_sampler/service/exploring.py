"""The task explorer's lists: an order, filters, pages by key, whatever the number of tasks.

A page never skips over what came before: it goes on from the key of the last task. A call looks at
a bounded number of tasks, so a rare kind may take several calls, each with its `next_cursor`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from etude_proto.v1 import TaskPage, TaskSummary

from ..errors import CursorExpired
from ..ports.ledger import BARE, StatisticsKey
from ..ports.sights import Fits
from .context import RunContext
from .steps import Ground
from .task_views import statistics_view
from .walks import (
    ImprovedWalk,
    NumberWalk,
    OrdinalWalk,
    ParkedWalk,
    PrefixWalk,
    SeenWalk,
    Tour,
    Walk,
)

Order = Literal["ordinal", "hardest", "easiest", "unseen", "stalest", "improved"]
Only = Literal["seen", "unseen", "parked"]
MOST_LOOKED_AT: Final = 5_000
"""Tasks that a call looks at, about (our choice)."""
MOST_BODIES: Final = 2_000
"""The same where each costs its body."""
_STEP = 2_500

_WALKS: dict[str, Callable[[Tour], Walk]] = {
    "ordinal": OrdinalWalk,
    "unseen": lambda tour: OrdinalWalk(tour, unseen=True),
    "parked": ParkedWalk,
    "hardest": lambda tour: SeenWalk(tour, "ema_up"),
    "easiest": lambda tour: SeenWalk(tour, "ema_down"),
    "stalest": lambda tour: SeenWalk(tour, "version_up"),
    "improved": ImprovedWalk,
}
_ROUTES: dict[str, tuple[str, ...]] = {
    "ordinal": ("ordinal",),
    "hardest": ("hardest", "unseen"),
    "easiest": ("easiest", "unseen"),
    "stalest": ("stalest", "unseen"),
    "unseen": ("unseen", "stalest"),
    "improved": ("improved",),
}
"""Walks of each order, one after the other."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list is of."""

    order: Order = "ordinal"
    only: Only | None = None
    subtask: str | None = None
    source: str | None = None
    text: str | None = None
    """An id's beginning, `#` and a number, or words of the task."""

    @property
    def kind(self) -> str:
        """Tells the cursors of this list from those of others."""
        text = json.dumps([self.order, self.only, self.subtask, self.source, self.text])
        return "explore:" + hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def route(self) -> tuple[str, ...]:
        """Names of its walks."""
        if self.only in ("parked", "unseen"):
            return (self.only,)
        walks = _ROUTES[self.order]
        if self.only == "seen":
            return tuple(name for name in walks if name != "unseen") or ("stalest",)
        return walks


class Explorer:
    """Lists of tasks."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def page(
        self, run_id: str, asked: Asked, *, cursor: str | None, limit: int
    ) -> tuple[TaskPage, str | None]:
        """A page, and the cursor to go on at.

        Raises:
            CursorExpired: the cursor is of no place in this list.
            Rebuilding: parked tasks are asked for, and Redis does not hold the run.
        """
        context = await self._ground.contexts.get(run_id)
        sources = context.row.spec.sources if asked.source is None else [asked.source]
        text = None if asked.text is None or is_name(asked.text) else _in_json(asked.text)
        tour = Tour(self._ground, context, Fits(sources, asked.subtask, text))
        walks = self._walks(tour, asked)
        name, _, place = (cursor or f"{next(iter(walks))}|").partition("|")
        if name not in walks:
            raise CursorExpired("this is not a cursor of this list")
        left = MOST_BODIES if tour.fits.reads_bodies else MOST_LOOKED_AT
        found: list[int] = []
        gains: dict[int, float] = {}
        looked_at, names, stride = 0, list(walks), 4 * limit
        while True:
            most = min(stride, _STEP, left - looked_at)
            step = await walks[name].step(place, want=limit - len(found), most=most)
            stride *= 4
            found += step.ordinals
            gains |= step.gains or {}
            looked_at += step.num_looked_at
            at = names.index(name)
            if step.place is not None:
                place = step.place
            elif at + 1 < len(names):
                name, place = names[at + 1], ""
            else:
                after = None
                break
            if len(found) == limit or looked_at >= left:
                after = f"{name}|{place}"
                break
        items = await self._items(context, found, gains)
        return TaskPage(items=items, next_cursor=None, num_looked_at=looked_at), after

    def _walks(self, tour: Tour, asked: Asked) -> dict[str, Walk]:
        if asked.text is not None and is_name(asked.text):
            return {"name": _named(tour, asked.text)}
        return {name: _WALKS[name](tour) for name in asked.route}

    async def _items(
        self, context: RunContext, ordinals: list[int], gains: dict[int, float]
    ) -> list[TaskSummary]:
        ground, run_id = self._ground, context.row.id
        rows = await ground.tasks.by_ordinals(context.row.spec.dataset_id, ordinals)
        found = await ground.ledger.statistics(run_id, ordinals, context.shape)
        at = {key: i for i, key in enumerate(found.keys)}
        seen = [at.get(StatisticsKey(row.ordinal, *BARE)) for row in rows]
        return [
            TaskSummary(
                id=row.id,
                ordinal=row.ordinal,
                source=row.source,
                subtasks=list(row.subtasks),
                statistics=None if i is None else statistics_view(context, found, i),
                gain=gains.get(row.ordinal),
            )
            for row, i in zip(rows, seen, strict=True)
        ]


def is_name(text: str) -> bool:
    """Whether a search is for an id or a number, not for words."""
    return text.startswith("task_") or (text.startswith("#") and text[1:].isdecimal())


def _named(tour: Tour, text: str) -> Walk:
    if text.startswith("#"):
        return NumberWalk(tour, min(int(text[1:]), 2**31 - 1))
    return PrefixWalk(tour, text)


def _in_json(text: str) -> str:
    """A text as it stands inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
