"""Every run at a glance, for metrics: what PostgreSQL and Redis hold of it now.

Looking changes nothing, and one run that cannot be read hides no other. `observability.run_metrics`
shows it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from ..errors import RunNotFound, SamplerError
from ..ports.races import EpochMismatch, RaceState
from .context import RunContext
from .steps import Ground

_LOG = logging.getLogger("etude.watching")

MAX_WATCHED: Final = 100
"""Runs that are looked at, by id: more would make a scrape long (our choice)."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One run now."""

    context: RunContext
    state: RaceState | None
    """None while Redis does not hold the run (it is being rebuilt)."""


@dataclass(frozen=True, slots=True)
class Sights:
    """What one look has seen."""

    runs: tuple[Sight, ...] = ()
    num_unwatched: int = 0
    is_whole: bool = False
    """Whether PostgreSQL and Redis have answered."""


async def look(ground: Ground) -> Sights:
    """The runs; what was seen until a dependency failed, if one does."""
    found: list[Sight] = []
    num_left = 0
    try:
        rows = await ground.catalog.run_markers()
        num_left = max(0, len(rows) - MAX_WATCHED)
        for run_id, _ in rows[:MAX_WATCHED]:
            sight = await _sight(ground, run_id)
            if sight is not None:
                found.append(sight)
    except SamplerError as error:
        _LOG.warning("watching.failed", extra={"error": str(error)})
        return Sights(tuple(found), num_left, is_whole=False)
    return Sights(tuple(found), num_left, is_whole=True)


async def _sight(ground: Ground, run_id: str) -> Sight | None:
    """None for a run that was deleted meanwhile."""
    try:
        context = await ground.contexts.get(run_id)
    except RunNotFound:
        return None
    try:
        return Sight(context, await ground.races.state(context.key))
    except EpochMismatch:
        return Sight(context, None)
