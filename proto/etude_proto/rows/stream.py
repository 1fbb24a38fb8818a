"""The common row stream: what every converter yields, and how a fault of a row is located.

`etude_client.sources` reads objects, the modules beside this one turn them into tasks, and the
sources' `upload` sends them. All of them speak `Row` and `RowFault`; nothing in here reads a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import ErrorDetails

from ..v1 import TaskCreate

JsonObject = dict[str, JsonValue]
"""One row as it stands in a file."""

MAX_DETAIL = 500
"""Longest reason kept, in characters; a reason may quote the row."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Row:
    """A row that became a task."""

    line: int
    """Line of a text file, or row of a table; both from 1."""
    task: TaskCreate
    origin: str = ""
    """The file, where an import reads several."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row that was refused, and why."""

    line: int
    pointer: str
    """JSON pointer (RFC 6901) into the row as it stands in the file; empty for the whole row."""
    detail: str
    origin: str = ""


RowStream = Iterator[Row | RowFault]


class RowRefused(ValueError):
    """Raised inside a converter for one row; the stream turns it into a `RowFault`."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(pointer, detail)
        self.pointer = pointer
        self.detail = detail if len(detail) <= MAX_DETAIL else detail[: MAX_DETAIL - 1] + "…"


class DatasetUnusable(ValueError):
    """The data set as a whole cannot be read: no file, no package, no table, no known shape."""


def converted(
    objects: Iterable[tuple[int, JsonObject | RowRefused]],
    convert: Callable[[JsonObject], TaskCreate],
    *,
    origin: str = "",
) -> RowStream:
    """Each numbered object as a task, or as the fault that kept it from becoming one."""
    for line, item in objects:
        try:
            if isinstance(item, RowRefused):
                raise item
            yield Row(line, guarded(convert, item), origin)
        except RowRefused as refused:
            yield RowFault(line, refused.pointer, refused.detail, origin)


def guarded(convert: Callable[[JsonObject], TaskCreate], row: JsonObject) -> TaskCreate:
    """What `convert` makes of a row; whatever a row's values make it raise refuses that row.

    Raises:
        RowRefused: it became no task.
    """
    try:
        return convert(row)
    except (RowRefused, DatasetUnusable):
        raise
    except RecursionError as error:
        raise RowRefused("", "nested too deeply to be read") from error
    except ValueError as error:
        raise RowRefused("", f"cannot be read: {error}") from error


def pointer_to(*parts: str | int) -> str:
    """JSON pointer (RFC 6901) of a path of keys and indices."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def checked(
    model: type[ModelT], value: Mapping[str, object], moved: Mapping[str, str] | None = None
) -> ModelT:
    """`value` as a `model`, without any coercion of types.

    `moved` maps a pointer's beginning in the model to its place in the row, because a converter
    builds the model's fields out of fields with other names.

    Raises:
        RowRefused: with the first fault, and how many more there are.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RowRefused("", f"not JSON: {error}") from error
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        first = faults[0]
        detail = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            detail = "unknown field"
        if len(faults) > 1:
            detail += f" (and {len(faults) - 1} more)"
        place = _place(first, value)
        for old, new in (moved or {}).items():
            if place == old or place.startswith(old + "/"):
                place = new + place[len(old) :]
                break
        raise RowRefused(place, detail) from error


def _place(fault: ErrorDetails, value: object) -> str:
    """Pointer of a validation fault, less the tags of unions, which are in no row."""
    parts: list[int | str] = []
    path = fault["loc"]
    tag: object = None
    for index, part in enumerate(path):
        is_absent_field = fault["type"] == "missing" and index == len(path) - 1
        if isinstance(value, dict) and (part in value or is_absent_field) and part != tag:
            value = value.get(part)
            tag = value.get("kind") if isinstance(value, dict) else None
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
            tag = None
        else:  # a tag; the next part of that name is a field
            tag = None
            continue
        parts.append(part)
    return pointer_to(*parts)
