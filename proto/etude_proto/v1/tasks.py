"""Datasets and tasks: what a rollout service is asked to solve, and how it is scored."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .aids import Aids
from .base import Id, Json, Name, Request, Response, SubtaskName
from .dialogue import Message, Tool
from .environments import BfclEnvironment, Environment, gold_call


class Split(StrEnum):
    """Which part of a dataset a task belongs to."""

    TRAIN = "train"
    """Drawn by runs."""
    HELD_OUT = "held_out"
    """Never drawn; kept for evaluation."""


class Call(Request):
    """A gold tool call."""

    name: str = Field(min_length=1)
    parameters: dict[str, Json] = Field(default_factory=dict)


class ToolRLReference(Request):
    """Gold as ToolRL writes it; kept as text, because typed columns change rewards."""

    kind: Literal["toolrl"] = "toolrl"
    text: str = Field(min_length=1)


class CallsReference(Request):
    """Gold calls with one right value for each argument."""

    kind: Literal["calls"] = "calls"
    calls: list[Call] = Field(min_length=1)
    response: bool = False
    """Whether a response block is expected after the calls."""


class BFCLReference(Request):
    """Gold calls with BFCL's allowed values: `[{function: {argument: [allowed, ...]}}]`."""

    kind: Literal["bfcl"] = "bfcl"
    calls: list[dict[str, dict[str, list[Json]]]] = Field(min_length=1)


class ResponseReference(Request):
    """Gold that is a plain answer: no tool fits the request."""

    kind: Literal["response"] = "response"


class EpisodeReference(Request):
    """Gold of an episode: what the last turn must say, calls that must be made, or both."""

    kind: Literal["episode"] = "episode"
    answers: list[Annotated[str, Field(min_length=1, max_length=65536)]] = Field(
        default_factory=list, max_length=64
    )
    """Right answers; one of them must be the last turn's. Compared without case, articles,
    punctuation and spare space, and as numbers where both are numbers."""
    calls: list[Call] = Field(default_factory=list, max_length=256)
    """Calls that must be among those that were made, in any order."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.answers and not self.calls:
            raise ValueError("an episode's reference needs answers or calls")
        return self


GoldCall = Annotated[str, AfterValidator(lambda text: (gold_call(text), text)[1])]
"""One gold call in Python's syntax, with plain values."""


class BfclTurnsReference(Request):
    """Gold of BFCL's multi-turn rows: after each user turn the services must be in the state
    that these calls lead to, and what these calls answer must have been answered."""

    kind: Literal["bfcl_turns"] = "bfcl_turns"
    turns: list[list[GoldCall]] = Field(min_length=1, max_length=65)
    """For each user turn; empty where nothing can be done."""


Reference = Annotated[
    ToolRLReference
    | CallsReference
    | BFCLReference
    | ResponseReference
    | EpisodeReference
    | BfclTurnsReference,
    Field(discriminator="kind"),
]


RESERVED_LANES = frozenset({"uniform", "hard", "probe", "pool"})
"""Names of lanes that runs add beside those of the sub-tasks."""


def _is_free(name: str) -> str:
    if name in RESERVED_LANES:
        raise ValueError(f"{name!r} is reserved: runs have a lane of that name")
    return name


NewSubtask = Annotated[
    SubtaskName,
    AfterValidator(_is_free),
    Field(json_schema_extra={"not": {"enum": sorted(RESERVED_LANES)}}),
]
"""A sub-task that a task may name."""


class TaskCreate(Request):
    """One task as imported: one NDJSON line of `POST /v1/datasets/{id}/tasks`."""

    messages: list[Message] = Field(min_length=1)
    """The dialogue up to the point where the policy speaks."""
    tools: list[Tool] = Field(default_factory=list)
    """Tools on offer, in the order they are shown."""
    reference: Reference | None = None
    """The gold; null when the trainer's framework scores by itself (curriculum-only mode)."""
    subtasks: list[NewSubtask] = Field(default_factory=list, max_length=32)
    """Skills this task exercises; each is a lane and a reward component."""
    source: Name = "default"
    """Where the task came from; quotas and alarms are per source."""
    split: Split = Split.TRAIN
    metadata: dict[str, Json] = Field(default_factory=dict)
    """Free data, returned unread (for example the id in the original data set)."""
    aids: Aids | None = None
    """What scaffolds may show to help with it; null: nothing."""
    environment: Environment | None = None
    """What executes the tool calls; null: the task is one turn, and calls are not executed."""

    @model_validator(mode="after")
    def _gold_fits_the_environment(self) -> Self:
        env, gold = self.environment, self.reference
        if env is None:
            if isinstance(gold, EpisodeReference | BfclTurnsReference):
                raise ValueError(f"a reference of kind {gold.kind!r} needs an environment")
            return self
        if gold is None:
            return self
        if not isinstance(gold, EpisodeReference | BfclTurnsReference):
            raise ValueError(
                "a task with an environment is judged by a reference of kind 'episode' or "
                f"'bfcl_turns', not {gold.kind!r}"
            )
        if isinstance(gold, BfclTurnsReference):
            if not isinstance(env, BfclEnvironment):
                raise ValueError("a reference of kind 'bfcl_turns' needs 'bfcl_multi_turn'")
            if len(gold.turns) != 1 + len(env.user_turns):
                raise ValueError(
                    f"the reference has {len(gold.turns)} turns, the user {1 + len(env.user_turns)}"
                )
        return self

    @model_validator(mode="after")
    def _documents_are_shown(self) -> Self:
        spans = []
        for document in () if self.aids is None else self.aids.documents:
            found = [(i, m.content.find(document)) for i, m in enumerate(self.messages)]
            found = [(i, begin) for i, begin in found if begin >= 0]
            if len(found) != 1 or self.messages[found[0][0]].content.count(document) != 1:
                raise ValueError(
                    "aids.documents must each stand word for word, once, in a message: "
                    f"{document[:40]!r} does not"
                )
            spans.append((*found[0], len(document)))
        spans.sort()
        for (i, begin, length), (j, after, _) in pairwise(spans):
            if i == j and begin + length > after:
                raise ValueError("aids.documents must not overlap in the message")
        return self


def task_id(task: TaskCreate) -> str:
    """Content hash of prompt, tools and gold: `task_` and 24 hexadecimal digits.

    An environment is hashed too. Source, split, sub-tasks, metadata and aids are not: the same
    question twice is one task.
    """
    hashed = {"messages", "tools", "reference"}
    if task.environment is not None:
        hashed.add("environment")
    content = task.model_dump(mode="json", include=hashed)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "task_" + hashlib.sha256(text.encode()).hexdigest()[:24]


class Task(Response):
    """A stored task."""

    id: Id
    ordinal: int = Field(ge=0)
    """Position in the dataset, in order of import; the key of every draw."""
    messages: list[Message]
    tools: list[Tool]
    reference: Reference | None
    subtasks: list[SubtaskName]
    source: str
    split: Split
    metadata: dict[str, Json]
    environment: Environment | None = None
    """What executes the tool calls; null: the task is one turn."""


class DatasetCreate(Request):
    """A new, empty dataset. Creating the same name again returns the existing one."""

    name: Name


class Dataset(Response):
    """A named, append-only set of tasks."""

    id: Id
    name: str
    num_tasks: int
    num_train: int
    num_held_out: int
    sources: dict[str, int]
    """Tasks per source."""
    created_at: str
    """RFC 3339, UTC."""


class RowError(Response):
    """Why one line of an import was refused."""

    line: int = Field(ge=1)
    pointer: str
    """JSON pointer to the field, or empty for the whole line."""
    detail: str


class ImportReceipt(Response):
    """What became of an import; good lines are stored even when others are bad."""

    dataset_id: Id
    num_lines: int
    num_created: int
    num_existing: int
    """Lines whose content was already in the dataset (idempotent re-import)."""
    num_rejected: int
    errors: list[RowError]
    """The first 1,000 refused lines."""


class DatasetPage(Response):
    """`GET /v1/datasets`."""

    items: list[Dataset]
    next_cursor: str | None
