"""Moving the decision log from Redis to PostgreSQL: in the background, and before a rebuild."""

from __future__ import annotations

from .context import RunContext
from .steps import Ground

_ROWS = 2000
"""Decisions moved at a time."""


async def drain(ground: Ground, context: RunContext) -> int:
    """Move the oldest decisions, at most `_ROWS`; how many there were. Repeatable."""
    decisions = await ground.races.read_log(context.key, _ROWS)
    if decisions:
        await ground.ledger.store_decisions(context.row.id, decisions)
        await ground.races.trim_log(context.key, decisions[-1].stream_id)
    return len(decisions)
