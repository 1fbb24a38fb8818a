"""A mapping of columns: which of a table's columns is which part of a task.

`{"prompt": "question", "answer": "final", "subtasks": ["arithmetic"]}`: a text names a column (dots
reach inside), a callable gets the row, anything else is the same for all rows. Without a prompt in
the mapping it changes what a recognised shape gives. Pure; used by `shapes`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .jsonl import jsonl_task
from .own_fields import HELD_OUT
from .prompts import dialogue
from .stream import DatasetUnusable, JsonObject, RowRefused, checked, pointer_to
from .strict_json import kind_of, parse_json

Column = str | Callable[[JsonObject], object] | JsonValue
Columns = Mapping[str, Column]

FIELDS = {
    "prompt": "a text, or a list of messages",
    "messages": "as prompt",
    "system": "a text that stands before the prompt",
    "tools": "tools on offer, or their JSON text",
    "calls": "gold calls, or their JSON text",
    "response": "whether an answer in words is expected",
    "reference": "gold as the contract has it, or ToolRL's text",
    "answer": "the right answer, for your own reward: kept as metadata.answer",
    "subtasks": "names of reward components",
    "source": "where the row came from",
    "split": "train, or test, validation and the like",
    "metadata": "an object, or a list of columns to keep",
    "aids": "what scaffolds may show",
    "environment": "what executes tool calls",
}
"""What a mapping may name, and what each is."""

LATER = ("subtasks", "source", "split", "answer", "metadata")
"""What may be mapped without a prompt: a recognised shape gives the rest."""

_TRAIN = {"train", "training"}


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping that was checked.

    Raises:
        DatasetUnusable: it names what no task has, or what does not go together.
    """

    columns: Columns

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in FIELDS:
                near = difflib.get_close_matches(name, FIELDS, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DatasetUnusable(
                    f"columns: a task has no {name!r}{hint} It has {', '.join(FIELDS)}"
                )
        if not self.columns:
            raise DatasetUnusable(f"columns is empty: it may name {', '.join(FIELDS)}")
        if {"prompt", "messages"} <= self.columns.keys():
            raise DatasetUnusable("columns: give `prompt` or `messages`, not both")
        if "reference" in self.columns and {"calls", "response"} & self.columns.keys():
            raise DatasetUnusable("columns: give `reference`, or `calls` and `response`")
        rest = [name for name in self.columns if name not in LATER]
        if rest and not self.is_whole:
            raise DatasetUnusable(
                f"columns: {rest[0]!r} needs `prompt` too; without a prompt, only "
                f"{', '.join(LATER)} of rows of a known shape can be mapped"
            )

    @property
    def is_whole(self) -> bool:
        """Whether it makes a task by itself; otherwise it changes one of a recognised shape."""
        return bool({"prompt", "messages"} & self.columns.keys())

    def check(self, first: JsonObject) -> None:
        """Whether the columns that are named are there, told by the first row.

        Raises:
            DatasetUnusable: one is not; those that are there are named.
        """
        for name, column in self.columns.items():
            wanted = column if name == "metadata" and isinstance(column, list) else [column]
            try:
                for one in wanted:
                    if isinstance(one, str):
                        _found(first, one)
            except RowRefused as refused:
                raise DatasetUnusable(f"columns[{name!r}]: {refused.detail}") from refused

    def task(
        self, row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE
    ) -> TaskCreate:
        """A row as a task.

        Raises:
            RowRefused: the pointer is the column's.
        """
        made = {name: self._taken(row, name) for name in self.columns}
        name = "prompt" if "prompt" in made else "messages"
        try:
            messages = dialogue(made.pop(name), "")
        except RowRefused as refused:
            raise RowRefused(self._place(name) + refused.pointer, refused.detail) from refused
        system = made.pop("system", None)
        if system is not None:
            if not isinstance(system, str):
                raise RowRefused(self._place("system"), f"expected text, found {kind_of(system)}")
            messages.insert(0, {"role": "system", "content": system})
        line: JsonObject = {"messages": messages}
        for name in ("tools", "calls", "response", "aids", "environment"):
            if made.get(name) is not None:
                line[name] = made[name]
        if isinstance(line.get("calls"), dict):
            line["calls"] = [line["calls"]]
        reference = made.get("reference")
        if isinstance(reference, str) and not reference.lstrip().startswith("{"):
            reference = {"kind": "toolrl", "text": reference}
        if reference is not None:
            line["reference"] = reference
            if "tools" in line:
                try:
                    line["tools"] = _unwrapped(line["tools"])
                except RowRefused as refused:
                    raise RowRefused(self._place("tools"), refused.detail) from refused
        line |= self._later(made)
        try:
            return jsonl_task(line, held_out_share=held_out_share)
        except RowRefused as refused:
            raise self._in_row(refused) from refused

    def changed(self, row: JsonObject, task: TaskCreate) -> TaskCreate:
        """A task of a recognised shape with what is mapped instead.

        Raises:
            RowRefused: the pointer is the column's.
        """
        later = self._later({name: self._taken(row, name) for name in self.columns})
        probe: JsonObject = {"messages": [{"role": "user", "content": "?"}], **later}
        try:
            made = checked(TaskCreate, probe)
        except RowRefused as refused:
            raise self._in_row(refused) from refused
        update = {name: getattr(made, name) for name in later}
        if "metadata" in update:
            update["metadata"] = {**task.metadata, **made.metadata}
        return task.model_copy(update=update)

    def _later(self, made: Mapping[str, JsonValue]) -> JsonObject:
        line: JsonObject = {}
        subtasks = made.get("subtasks")
        if subtasks is not None:
            is_name = isinstance(subtasks, str) and not subtasks.startswith("[")
            line["subtasks"] = [subtasks] if is_name else subtasks
        source = made.get("source")
        if source is not None:
            line["source"] = str(source)
        split = made.get("split")
        if split is not None:
            line["split"] = self._side(split)
        metadata = made.get("metadata")
        if isinstance(metadata, str) and metadata.startswith("{"):
            metadata = parse_json(metadata)
        if metadata is not None and not isinstance(metadata, dict):
            raise RowRefused(
                self._place("metadata"), f"expected an object, found {kind_of(metadata)}"
            )
        answer = made.get("answer")
        kept = {**(metadata or {}), **({} if answer is None else {"answer": answer})}
        return {**line, "metadata": kept} if kept else line

    def _side(self, split: JsonValue) -> str:
        name = str(split).lower()
        if name not in HELD_OUT | _TRAIN:
            raise RowRefused(
                self._place("split"), f"{split!r} is no split: train, or test, validation, held_out"
            )
        return "train" if name in _TRAIN else "held_out"

    def _taken(self, row: JsonObject, name: str) -> JsonValue:
        column = self.columns[name]
        if callable(column):
            try:
                return column(row)  # type: ignore[return-value]  # checked with the task
            except Exception as error:
                raise RowRefused(
                    "", f"columns[{name!r}] failed: {type(error).__name__}: {error}"
                ) from error
        if name == "metadata" and isinstance(column, list):
            return {str(one): _found(row, str(one)) for one in column}
        return _found(row, column) if isinstance(column, str) else column

    def _place(self, name: str) -> str:
        """Pointer to the column that gives a field; empty if none does."""
        column = self.columns.get(name)
        return pointer_to(*column.split(".")) if isinstance(column, str) else ""

    def _in_row(self, refused: RowRefused) -> RowRefused:
        """A refusal of the task as one of the row."""
        field = refused.pointer.split("/")[1] if refused.pointer else ""
        name = "prompt" if field == "messages" and "prompt" in self.columns else field
        name = "answer" if field == "metadata" and "metadata" not in self.columns else name
        place = self._place(name)
        said = refused.detail if place or not name else f"{name}: {refused.detail}"
        return RowRefused(place, said)


def parse_columns(text: str) -> dict[str, Column]:
    """A mapping as written on a command line: `prompt=question,answer=final,source="gsm8k"`.

    A value that is a quoted text, a list, an object, `true` or `false` is the same for all rows;
    anything else, a number too, names a column.

    Raises:
        DatasetUnusable: it cannot be read.
    """
    columns: dict[str, Column] = {}
    for part in _parts(text):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise DatasetUnusable(f"columns: expected FIELD=COLUMN, found {part!r}")
        if name in columns:
            raise DatasetUnusable(f"columns: {name!r} is given twice")
        if value[0] in '"[{' or value in {"true", "false"}:
            try:
                constant = parse_json(value)
            except RowRefused as refused:
                raise DatasetUnusable(f"columns: {name}={value}: {refused.detail}") from refused
            columns[name] = _same(constant) if isinstance(constant, str) else constant
        else:
            columns[name] = value
    return columns


def _unwrapped(tools: JsonValue) -> JsonValue:
    """Tools without their OpenAI wrapping, as a line with a reference has them."""
    if isinstance(tools, str):
        tools = parse_json(tools)
    if not isinstance(tools, list):
        return tools
    kept = ("name", "description", "parameters")
    made: list[JsonValue] = []
    for tool in tools:
        inner = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(inner, dict):
            made.append({name: inner[name] for name in kept if name in inner})
        else:
            made.append(tool)
    return made


def _same(text: str) -> Callable[[JsonObject], object]:
    return lambda _: text


def _parts(text: str) -> list[str]:
    """The parts between commas that stand in no bracket or quote."""
    parts, depth, is_quoted, start = [], 0, False, 0
    for position, mark in enumerate(text):
        if mark == '"':
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += (mark in "[{") - (mark in "]}")
        if mark == "," and not depth and not is_quoted:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _found(row: JsonObject, name: str) -> JsonValue:
    if name in row:
        return row[name]
    value: JsonValue = row
    for part in name.split("."):
        if value is not row and (value is None or (isinstance(value, dict) and part not in value)):
            return None  # only a column of the row's own has to be there
        if not isinstance(value, dict) or part not in value:
            near = difflib.get_close_matches(name, row, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RowRefused(
                "", f"no column {name!r}; the row has {', '.join(map(repr, row))}{hint}"
            )
        value = value[part]
    return value
