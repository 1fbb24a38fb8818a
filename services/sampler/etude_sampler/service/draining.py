"""Moving the decision log from Redis to PostgreSQL: in the background and before exports."""

from __future__ import annotations

from ..ports.ledger import Ledger
from ..ports.races import Races, RunKey
from .context import RunContext
from .steps import Ground

_ROWS = 2000
"""Decisions moved at a time."""


async def drain(ground: Ground, context: RunContext) -> int:
    """Move the oldest decisions, at most `_ROWS`; how many there were. Repeatable."""
    return await _move(ground.ledger, ground.races, context.key)


async def drain_all(ledger: Ledger, races: Races, run: RunKey) -> None:
    """Move every decision that a run has logged until now. Repeatable."""
    while await _move(ledger, races, run) == _ROWS:
        pass


async def _move(ledger: Ledger, races: Races, run: RunKey) -> int:
    decisions = await races.read_log(run, _ROWS)
    if decisions:
        await ledger.store_decisions(run.run_id, decisions)
        await races.trim_log(run, decisions[-1].stream_id)
    return len(decisions)
