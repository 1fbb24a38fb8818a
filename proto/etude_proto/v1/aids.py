"""Aids: what may help with a task, brought along with it and shown only by a scaffold.

They are no part of the task's identity, are never in the prompt of an un-scaffolded rollout, and
come from training data only.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from .base import Request
from .dialogue import Message

AidText = Annotated[str, Field(min_length=1, max_length=65536, pattern=r"^[^\x00]*$")]
"""A hint, a document or an answer."""


class Hints(Request):
    """Hints in three tiers, from general to plain; at most four items a tier, in order."""

    knowledge: list[AidText] = Field(default_factory=list, max_length=4)
    """Facts and rules that the task needs."""
    planning: list[AidText] = Field(default_factory=list, max_length=4)
    """Steps to take."""
    solution: list[AidText] = Field(default_factory=list, max_length=4)
    """Pieces of the solution."""

    @property
    def tiers(self) -> tuple[list[str], list[str], list[str]]:
        """All three, in order."""
        return self.knowledge, self.planning, self.solution


class Aids(Request):
    """What may help with a task; every part is optional."""

    hints: Hints | None = None
    """For scaffold `hints`."""
    solution: AidText | list[Message] | None = None
    """A verified solution, for scaffold `prefix`: text in the output format, or the assistant's
    and the tools' turns."""
    documents: list[AidText] = Field(default_factory=list, max_length=64)
    """Context documents, for scaffold `noise_docs`: each stands word for word, once, in one of the
    task's messages."""
    demonstration: AidText | None = None
    """A right answer in the output format: makes the task an example for others."""

    @model_validator(mode="after")
    def _solution_is_text(self) -> Self:
        turns = self.solution if isinstance(self.solution, list) else []
        if self.solution == [] or any("\x00" in turn.content for turn in turns):
            raise ValueError("aids.solution must have turns, and no NUL in them")
        return self
