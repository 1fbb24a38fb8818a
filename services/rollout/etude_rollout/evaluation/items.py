"""What a benchmark is made of: items, verdicts, and the protocol that every benchmark has.

Implemented by `api_bank.py` and `bfcl.py`; `asking.py` and `summary.py` know no more than this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import JsonValue

from etude_proto.v1 import Environment, Message, Tool

Split = Literal["train", "held_out"]
Turns = Sequence[Sequence[str]]


class EvaluationError(Exception):
    """An evaluation that cannot be done as asked; the message is one line and says why."""


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """How an item of several turns is played."""

    environment: Environment
    """With the user's later turns."""
    max_steps: int
    """Answers of the assistant in the whole episode."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark."""

    id: str
    domain: str
    """Level or category; scores and the quantisation gate go by it."""
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    row: Mapping[str, JsonValue]
    """The row it came from, gold included; only its benchmark reads it."""
    split: Split | None = None
    """On which side `etude import` puts it with its default share; null if it never imports it."""
    episode: EpisodeSpec | None = None
    """Null: one answer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right, and if not, why."""

    is_right: bool
    reason: str = ""
    """In the checker's own words; empty if right."""


@dataclass(frozen=True, slots=True)
class Group:
    """A mean over domains, as the benchmark's authors take it."""

    name: str
    weights: Mapping[str, float]
    """By domain; they sum to 1."""
    formula: str
    """In words, for the reader of the table."""


class Benchmark(Protocol):
    """Items with a way to judge answers."""

    @property
    def name(self) -> str:
        """As on the command line: `api-bank`."""

    @property
    def data(self) -> str:
        """Which rows and which checker: a version and a digest. Answers are kept apart by it."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of items of each chosen domain, in the order of the table."""

    @property
    def groups(self) -> Sequence[Group]:
        """Means whose domains are all chosen."""

    def items(self) -> Sequence[Item]:
        """All items of the chosen domains, in the order of the files."""

    def check(self, item: Item, text: str, turns: Turns = ()) -> Verdict:
        """Judge an answer.

        Args:
            item: with its gold.
            text: the whole answer, of an item of one turn.
            turns: of an episode, what was said to each of the user's turns.
        """

    def gold_answers(self, item: Item) -> Sequence[str]:
        """A right answer, in the form that the prompt asks for; of an episode one after another."""
