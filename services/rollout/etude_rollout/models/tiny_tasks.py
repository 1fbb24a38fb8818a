"""A small family of tool-call tasks that a tiny policy can learn from scratch.

Each task offers three tools and a request. The right answer names the tool that fits (or answers
in words when none does), spells the parameter as *this* tool list spells it, and copies the value
that is asked for, not the one that is waved away. So all four of ToolRL's components (format,
tool name, parameter name, parameter value) have to be learned, and tasks differ in difficulty:
none, one or two parameters, with or without a decoy. The family and its wording are our choice.

Tasks come out as `TaskCreate` rows with gold calls, so they take the normal import path and are
scored by the normal rewards. `tiny.py` trains its tokenizer on them, `warm_start.py` its policy.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from etude_proto.v1 import (
    Call,
    CallsReference,
    Message,
    ResponseReference,
    Split,
    TaskCreate,
    Tool,
)

SUBTASKS = ("format", "tool_name", "param_name", "param_value")
"""The components that tasks of this family exercise, in prerequisite order."""

CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Paris", "Quito", "Tokyo")
PEOPLE = ("Ada", "Ben", "Cleo", "Dina", "Emil", "Fay", "Gus", "Hana")
SONGS = ("Aurora", "Bolero", "Canon", "Dreams", "Echoes", "Fugue", "Gloria", "Hymn")
ROOMS = ("attic", "cellar", "garage", "hall", "kitchen", "office", "porch", "study")
NUMBERS = (2, 3, 4, 5, 6, 7, 8, 9)


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter: the names that tool lists give it, and the values it takes."""

    names: tuple[str, ...]
    values: tuple[str, ...] | tuple[int, ...]

    @property
    def schema_type(self) -> str:
        """JSON Schema type of the values."""
        return "integer" if isinstance(self.values[0], int) else "string"

    def draw(self, rng: random.Random, *, other_than: str | int | None = None) -> str | int:
        """One of the values, but not `other_than`."""
        return rng.choice([value for value in self.values if value != other_than])


@dataclass(frozen=True, slots=True)
class ToolKind:
    """One tool: its parameters and the ways people ask for it (`{0}`, `{1}` are the values)."""

    name: str
    slots: tuple[Slot, ...]
    requests: tuple[str, ...]


_COUNT = Slot(("count", "number", "amount"), NUMBERS)

TOOL_KINDS = (
    ToolKind("news", (), ("what is new today", "read me the headlines", "what happened today")),
    ToolKind("mute", (), ("be quiet now", "turn the sound off", "no more noise please")),
    ToolKind(
        "weather",
        (Slot(("city", "place", "town"), CITIES),),
        ("will it rain in {0}", "how is the sky over {0}", "do I need a coat in {0}"),
    ),
    ToolKind(
        "call",
        (Slot(("person", "who", "contact"), PEOPLE),),
        ("ring {0} for me", "get {0} on the phone", "I want to talk to {0}"),
    ),
    ToolKind(
        "play",
        (Slot(("song", "title", "track"), SONGS),),
        ("put on {0}", "I want to hear {0}", "start the record {0}"),
    ),
    ToolKind(
        "timer",
        (Slot(("minutes", "length", "wait"), NUMBERS),),
        ("wake me in {0} minutes", "tell me when {0} minutes are over"),
    ),
    ToolKind(
        "taxi",
        (Slot(("city", "place", "town"), CITIES), _COUNT),
        ("a ride to {0} for {1}", "drive {1} of us to {0}"),
    ),
    ToolKind(
        "light",
        (Slot(("room", "area", "zone"), ROOMS), Slot(("level", "power", "value"), NUMBERS)),
        ("set the lamp in {0} to {1}", "make {0} as bright as {1}"),
    ),
    ToolKind(
        "invite",
        (Slot(("person", "who", "contact"), PEOPLE), _COUNT),
        ("ask {0} to come with {1} friends", "there is room for {0} and {1} more"),
    ),
)

_DECOYS = ("not {0} but", "forget {0} ,", "no longer {0} ,")
"""How a request waves a value away."""

_SMALL_TALK = ("good morning", "thank you", "how are you", "you are kind", "that was funny")
"""Requests that no tool serves."""

NO_TOOL_SHARE = 0.12
"""Share of tasks that want words, not a call (ToolRL's training set has as many)."""

NUM_OFFERED = 3
"""Tools on offer in a task."""

DECOY_SHARE = 0.5
"""Share of the tasks with parameters that also name a wrong value."""


@dataclass(frozen=True, slots=True)
class TinyTask:
    """A task, and what a careless answer to it would use instead of the right parts."""

    task: TaskCreate
    call: Call | None
    """The gold call; null when no tool fits."""
    other_tools: tuple[str, ...]
    """Names of the other tools on offer."""
    other_names: tuple[str, ...]
    """For each parameter, a name that other tool lists give it."""
    other_values: tuple[str | int, ...]
    """For each parameter, a wrong value: the decoy where there is one."""


def _quoted(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _offer(rng: random.Random, kind: ToolKind) -> tuple[Tool, list[str]]:
    """A tool as this task's list shows it, with one of the names of each parameter."""
    names = [rng.choice(slot.names) for slot in kind.slots]
    properties: dict[str, JsonValue] = {
        name: {"type": slot.schema_type} for name, slot in zip(names, kind.slots, strict=True)
    }
    required: list[JsonValue] = [*names]
    parameters: dict[str, JsonValue] = {
        "type": "object",
        "properties": properties,
        "required": required,
    }
    return Tool(name=kind.name, parameters=parameters), names


def draw_task(rng: random.Random, *, split: Split = Split.TRAIN) -> TinyTask:
    """One task of the family, drawn with `rng`."""
    offered = rng.sample(TOOL_KINDS, NUM_OFFERED)
    shown = {kind.name: _offer(rng, kind) for kind in offered}
    if rng.random() < NO_TOOL_SHARE:
        return _small_talk(rng, [tool for tool, _ in shown.values()], split=split)
    asked = rng.choice(offered)
    values = [slot.draw(rng) for slot in asked.slots]
    wrong = [
        slot.draw(rng, other_than=right) for slot, right in zip(asked.slots, values, strict=True)
    ]
    request = rng.choice(asked.requests).format(*map(_quoted, values))
    if wrong and rng.random() < DECOY_SHARE:
        place = rng.randrange(len(wrong))
        request = f"{rng.choice(_DECOYS).format(_quoted(wrong[place]))} {request}"
    names = shown[asked.name][1]
    call = Call(name=asked.name, parameters=dict(zip(names, values, strict=True)))
    task = TaskCreate(
        messages=[Message(role="user", content=request)],
        tools=[tool for tool, _ in shown.values()],
        reference=CallsReference(calls=[call]),
        subtasks=list(SUBTASKS if values else SUBTASKS[:3]),
        source="tiny",
        split=split,
        metadata={"num_parameters": len(values)},
    )
    return TinyTask(
        task=task,
        call=call,
        other_tools=tuple(kind.name for kind in offered if kind is not asked),
        other_names=tuple(
            rng.choice([name for name in slot.names if name != shown_name])
            for slot, shown_name in zip(asked.slots, names, strict=True)
        ),
        other_values=tuple(wrong),
    )


def _small_talk(rng: random.Random, tools: list[Tool], *, split: Split) -> TinyTask:
    """A task whose gold is a plain answer: tools are on offer, none is wanted."""
    task = TaskCreate(
        messages=[Message(role="user", content=rng.choice(_SMALL_TALK))],
        tools=tools,
        reference=ResponseReference(),
        subtasks=list(SUBTASKS[:1]),
        source="tiny",
        split=split,
        metadata={"num_parameters": 0},
    )
    names = tuple(tool.name for tool in tools)
    return TinyTask(task=task, call=None, other_tools=names, other_names=(), other_values=())


def draw_tasks(seed: int, *, split: Split = Split.TRAIN) -> Iterator[TinyTask]:
    """An endless, reproducible stream of tasks."""
    rng = random.Random(seed)
    while True:
        yield draw_task(rng, split=split)


def dataset(*, seed: int = 0, num_train: int = 256, num_held_out: int = 64) -> list[TaskCreate]:
    """Distinct tasks as rows for the import, the train split first."""
    rows: list[TaskCreate] = []
    seen: set[str] = set()
    stream = draw_tasks(seed)
    while len(rows) < num_train + num_held_out:
        task = next(stream).task
        key = task.model_dump_json(include={"messages", "tools"})
        if key not in seen:
            seen.add(key)
            split = Split.TRAIN if len(rows) < num_train else Split.HELD_OUT
            rows.append(task.model_copy(update={"split": split}))
    return rows


def answer(call: Call | None) -> str:
    """The answer to a task in ToolRL's output format, with the shortest thought."""
    if call is None:
        return "<think> none fits </think>\n<response> sorry </response>"
    body = call.model_dump_json(include={"name", "parameters"}).replace('":', '": ')
    line = body.replace(',"', ', "')
    return f"<think> use {call.name} </think>\n<tool_call>\n{line}\n</tool_call>"
