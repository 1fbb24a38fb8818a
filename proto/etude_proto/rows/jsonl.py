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


def jsonl_task(row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE) -> TaskCreate:
    """One line of either shape as a task; a split that the line names is kept.

    Raises:
        RowRefused: with a pointer into the line.
    """
    if is_openai_shape(row):
        task, split = _from_openai_shape(row)
        calls_at = "/calls"
    else:
        task = checked(TaskCreate, row)
        split = task.split if "split" in row else None
        calls_at = "/reference/calls"
    _refuse_calls_without_tool(task, calls_at)
    return finished(task, held_out_share, split=split)


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
