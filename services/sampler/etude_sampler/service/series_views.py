"""A run's history for charts: read once, kept as arrays, answered in few points.

The first answer after a start reads every version of the run, in pages and off the loop; later ones
read what was added. A bounded number of runs is kept, least recently asked go first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from etude_proto.v1 import Arm, Series

from .context import RunContext
from .series import Columns, Points, shown_names
from .steps import Ground

MOST_RUNS = 8
"""Runs whose history a process keeps: about 10 MB each at 10,000 versions (our choice)."""
_PAGE = 500
_MOST_ANSWERS = 32
_FIGURES = ("loss", "reward", "kl", "grad_norm")
"""The trainer's figure that is shown unless one is asked for: the first of these there is."""
ARM_FIGURES = ("informative_share", "success_rate", "mean_reward", "reward_per_1k_tokens")


@dataclass(slots=True)
class _Kept:
    """What was read of one run at one epoch."""

    columns: Columns = field(default_factory=Columns)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    answers: dict[tuple[int, int, str | None], Series] = field(default_factory=dict)
    """By number of versions and what was asked; of the newest number only."""


class SeriesViews:
    """Histories as lines."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()

    async def series(self, run_id: str, *, points: int, figure: str | None) -> Series:
        """At most `points` points. Raises `RunNotFound`."""
        context = await self._ground.contexts.get(run_id)
        kept = self._keep((context.row.id, context.row.epoch))
        async with kept.lock:
            await self._read_on(run_id, kept.columns)
            asked = (len(kept.columns.versions), points, figure)
            if asked not in kept.answers:
                if len(kept.answers) >= _MOST_ANSWERS or any(
                    n != asked[0] for n, *_ in kept.answers
                ):
                    kept.answers.clear()
                kept.answers[asked] = await asyncio.to_thread(
                    _shown, context, kept.columns, points=points, figure=figure
                )
            return kept.answers[asked]

    def _keep(self, key: tuple[str, int]) -> _Kept:
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_RUNS:
            self._kept.popitem(last=False)
        return kept

    async def _read_on(self, run_id: str, columns: Columns) -> None:
        """Add the versions that are new."""
        while True:
            after = columns.versions[-1] if columns.versions else -1
            rows = await self._ground.ledger.summaries(run_id, after=after, limit=_PAGE)
            await asyncio.to_thread(columns.add, rows)
            if len(rows) < _PAGE:
                return


def _shown(context: RunContext, columns: Columns, *, points: int, figure: str | None) -> Series:
    cut, curriculum = Points(columns, most=points), context.curriculum
    lanes = shown_names(columns, "lane_groups", curriculum.lanes)
    figures = sorted(columns.names("metrics"))
    first = next((name for name in _FIGURES if name in figures), next(iter(figures), None))
    asked = figure if figure in figures else first
    parts = shown_names(columns, "mean_components", curriculum.subtasks)
    return Series(
        run_id=context.row.id,
        policy_version=columns.versions[-1] if columns.versions else context.row.policy_version,
        num_versions=len(columns.versions),
        every=cut.every,
        versions=cut.versions,
        num_groups=[int(num) for num in cut.sums("num_groups")],
        num_tokens=[int(num) for num in cut.sums("num_tokens")],
        mastery=[cut.mastery(n) for n in shown_names(columns, "mastery", curriculum.subtasks)],
        reward=cut.line("mean_reward", label="mean reward", by="num_groups"),
        success=cut.line("success_rate", label="success rate", by="num_groups"),
        informative=cut.share("num_informative", "num_groups", label="informative groups"),
        components=[cut.line(f"mean_components/{n}", label=n, by="num_groups") for n in parts],
        lane_groups=[cut.share(f"lane_groups/{n}", "num_groups", label=n) for n in lanes],
        lane_shares=[
            cut.line(f"lane_shares/{n}", label=n)
            for n in shown_names(columns, "lane_shares", curriculum.lanes)
        ],
        arms=[cut.arm(arm, name) for arm in Arm for name in ARM_FIGURES],
        figures=figures,
        figure=None if asked is None else cut.line(f"metrics/{asked}", label=asked),
    )
