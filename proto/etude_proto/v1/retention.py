"""How long what a run leaves behind is kept, and what deleting answers.

What counts is never dropped by age: statistics, the curriculum's state, curriculum checkpoints
(they have limits of their own), and the ledger's rows themselves.
"""

from __future__ import annotations

from pydantic import Field

from .base import Id, Request, Response

DAY_S = 86_400
_CENTURY_S = 36_500 * DAY_S


class Retention(Request):
    """Seconds after which a run's leftovers are dropped; null: never."""

    receipts_s: int | None = Field(default=7 * DAY_S, ge=3600, le=_CENTURY_S)
    """Receipts: how long a retry of a report, an ack or a version gets its first answer again.
    After that it is refused as late and still counts nothing twice."""
    decisions_s: int | None = Field(default=90 * DAY_S, ge=3600, le=_CENTURY_S)
    """The decision log. A run whose log has lost its beginning can no longer be replayed."""
    late_s: int | None = Field(default=30 * DAY_S, ge=3600, le=_CENTURY_S)
    """Ledger rows of reports that came too late to count."""
    discarded_s: int | None = Field(default=30 * DAY_S, ge=3600, le=_CENTURY_S)
    """Ledger rows and versions of futures that a restore discarded."""
    outcomes_s: int | None = Field(default=90 * DAY_S, ge=3600, le=_CENTURY_S)
    """The single rollouts of a ledger row; its means, counts and EMAs stay."""
    summaries_s: int | None = Field(default=None, ge=3600, le=_CENTURY_S)
    """Points of the history, but those of the newest version and of curriculum checkpoints."""


class Deleted(Response):
    """`DELETE /v1/runs/{id}`, `DELETE /v1/datasets/{id}`: gone for callers; its rows go soon."""

    id: Id
    name: str
