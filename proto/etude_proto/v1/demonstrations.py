"""Demonstrations: right answers to other tasks, shown before a task that the policy cannot solve.

Chosen by the sampler (algorithms.md 4.2), shown by the rollout worker, never trained on: they are
prompt. `batches` carries them, `reports` brings the policy's own.
"""

from __future__ import annotations

from typing import Literal

from .base import Id, Response
from .dialogue import Tool
from .tasks import Reference

MAX_COMPLETION_CHARS = 16_384
"""Longest completion that a report may carry as a demonstration to be."""


class Demonstration(Response):
    """One right answer to another task, with what the policy must see to follow it."""

    task_id: Id
    origin: Literal["policy", "imported"]
    """Said by the policy of this run and scored right, or brought along by its task (`aids`)."""
    tools: list[Tool]
    """The tools on offer there."""
    request: str
    """The last user turn there."""
    answer: str
    """The whole completion, in the exact output format, thought included."""
    reference: Reference | None = None
    """The gold there, for imported ones: the worker scores them before it shows them."""
