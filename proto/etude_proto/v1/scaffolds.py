"""Scaffolds: help in a prompt, and what a worker does when a group fails.

A scaffold is shown from the start; a ladder is climbed, inside the same lease, only by a group
that failed. Whoever rolls out reports each rung as an attempt of its own (`reports.Attempt`).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Response
from .dialogue import Message


class Scaffold(Response):
    """Help added to the prompt; level 0 is bare."""

    kind: str = "none"
    level: int = Field(default=0, ge=0)
    messages: list[Message] | None = None
    """Shown instead of the task's own messages (`noise_docs`)."""


class Merge(StrEnum):
    """What becomes of the group when a rung of its ladder succeeds."""

    REPLACE_ONE = "replace_one"
    """The success takes the place of one failed rollout, chosen by the group's seed."""
    REPLACE_ALL = "replace_all"
    """The rung's rollouts are the group."""
    APPEND_TURN = "append_turn"
    """Every failed rollout goes on with a reflection and another try."""


class Rung(Response):
    """One level of a ladder."""

    level: int = Field(ge=1)
    text: str = ""
    """`replace_one`: appended to the system text. `replace_all`: what the assistant's turn begins
    with. `append_turn`: the user's turn that asks for the reflection."""
    turns: list[Message] = Field(default_factory=list)
    """`replace_all`: turns of the solution, appended to the dialogue."""
    again: str = ""
    """`append_turn`: the user's turn after the reflection, which asks for another try."""


class Ladder(Response):
    """Rungs to climb, lowest first, by a group without a success (`append_turn`: by each failed
    rollout), until one succeeds. Without any success the group stays as it is."""

    kind: str
    """Scaffold kind of the attempts to report."""
    merge: Merge
    num_rollouts: int = Field(ge=1)
    """Rollouts to make on each rung (`append_turn`: one for each failed rollout)."""
    at_once: bool = False
    """Make all rungs in one go instead of one after another; the lowest success counts."""
    rungs: list[Rung]


class SelfExample(Response):
    """Ask for examples of the policy's own in its thought, and reward valid ones (shaping only)."""

    text: str
    """Appended to the system text."""
    bonus: float = Field(ge=0.0)
    """Added as shaping to a rollout whose examples are valid."""
    min_words: int = Field(ge=1)
    """Least words of an analysis."""
    max_similarity: float = Field(gt=0.0, le=1.0)
    """Token Jaccard between an example's request and the user's must stay below."""
