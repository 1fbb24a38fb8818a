"""Our own file format: one task a line, as the contract has it or in an OpenAI-like shape.

`docs/how-to/import.md` explains it, `task_schema` writes its JSON Schema. A `.parquet` file with
the same fields as columns is read too.
"""

from __future__ import annotations

from pydantic import ValidationError

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import CallsReference, Split, TaskCreate
from .finishing import finished
from .openai_shape import OpenAILine
from .stream import JsonObject, RowRefused, checked
from .strict_json import parse_json

_MAY_BE_TEXT = frozenset(
    ["messages", "tools", "calls", "reference", "subtasks", "metadata", "aids", "environment"]
)
"""Columns that typed tables hold as JSON text: a table's own types would add nulls to them."""


def jsonl_task(
    row: JsonObject,
    *,
    held_out_share: float = DEFAULT_HELD_OUT_SHARE,
    must_offer: bool = True,
) -> TaskCreate:
    """One line of either shape as a task; a split that the line names is kept.

    With `must_offer`, gold that calls a tool which is not on offer is refused.

    Raises:
        RowRefused: with a pointer into the line.
    """
    row = _read_texts(row)
    if is_openai_shape(row):
        task, split = _from_openai_shape(row)
        calls_at = "/calls"
    else:
        task = checked(TaskCreate, row)
        split = task.split if "split" in row else None
        calls_at = "/reference/calls"
    if must_offer:
        _refuse_calls_without_tool(task, calls_at)
    return finished(task, held_out_share, split=split)


def given_task(row: JsonObject) -> TaskCreate:
    """A task's fields as they are: no sub-tasks are derived, no split is assigned.

    Raises:
        RowRefused: with a pointer into the row.
    """
    return checked(TaskCreate, _read_texts(row))


def _read_texts(row: JsonObject) -> JsonObject:
    """The line with columns that hold the JSON text of an array or object read."""
    read = dict(row)
    for key in _MAY_BE_TEXT & row.keys():
        text = row[key]
        if isinstance(text, str) and text.lstrip()[:1] in {"[", "{"}:
            try:
                read[key] = parse_json(text)
            except RowRefused as refused:
                raise RowRefused(f"/{key}", refused.detail) from refused
    return read


def is_openai_shape(row: JsonObject) -> bool:
    """Whether the line has gold beside the messages, or a wrapped tool."""
    if "calls" in row or "response" in row:
        return True
    tools = row.get("tools")
    return isinstance(tools, list) and any(
        isinstance(tool, dict) and "function" in tool for tool in tools
    )


def _from_openai_shape(row: JsonObject) -> tuple[TaskCreate, Split | None]:
    line = checked(OpenAILine, row)
    try:
        task = TaskCreate(
            messages=line.messages,
            tools=line.plain_tools(),
            reference=line.reference(),
            subtasks=line.subtasks,
            source=line.source,
            metadata=line.metadata,
            aids=line.aids,
        )
    except ValidationError as error:  # what only the whole task can tell: its documents
        detail = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RowRefused("/aids/documents", detail) from error
    return task, line.split


def _refuse_calls_without_tool(task: TaskCreate, calls_at: str) -> None:
    """Gold that calls a tool which is not on offer could never be reached."""
    if not task.tools or not isinstance(task.reference, CallsReference):
        return
    offered = {tool.name for tool in task.tools}
    for index, call in enumerate(task.reference.calls):
        if call.name not in offered:
            raise RowRefused(
                f"{calls_at}/{index}", f"the gold calls {call.name!r}, which is not among the tools"
            )
