"""The shape of xLAM's function-calling rows, which APIGen's and Hammer's sets share, as tasks.

A row has `query`, `tools` and `answers`, the last two as JSON text or as values. Tools describe
their parameters by Python-like type names; an answer without calls means that no tool fits.
`masking` hides the names, as Hammer's training does.
"""

from __future__ import annotations

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .function_lists import call_of, list_in, tool_of
from .jsonl import jsonl_task
from .masking import masked
from .own_fields import GOLD, own_fields
from .stream import JsonObject, RowRefused
from .strict_json import kind_of

SOURCE = "xlam"


def xlam_task(
    row: JsonObject,
    *,
    held_out_share: float = DEFAULT_HELD_OUT_SHARE,
    source: str = SOURCE,
    mask: bool = False,
) -> TaskCreate:
    """One row as a task; with `mask`, the names of its tools and their arguments are hidden.

    Raises:
        RowRefused: with a pointer into the row.
    """
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise RowRefused("/query", f"expected text, found {kind_of(query)}")
    tools: list[JsonObject] = [
        tool_of(item, f"/tools/{number}") for number, item in enumerate(list_in(row, "tools"))
    ]
    calls: list[JsonObject] = [
        call_of(item, f"/answers/{number}") for number, item in enumerate(list_in(row, "answers"))
    ]
    if mask:
        tools, calls = masked(query, tools, calls)
    metadata: JsonObject = {"id": row["id"]} if "id" in row else {}
    line: JsonObject = {
        **own_fields(row, derived=("source", "metadata", *GOLD)),
        "messages": [{"role": "user", "content": query}],
        "tools": list[JsonValue](tools),
        "source": source,
        "metadata": {**metadata, "masked": True} if mask else metadata,
    }
    line |= {"calls": list[JsonValue](calls)} if calls else {"response": True}
    try:
        return jsonl_task(line, held_out_share=held_out_share)
    except RowRefused as refused:
        pointer = refused.pointer.replace("/calls", "/answers", 1).replace("/messages/0", "/query")
        raise RowRefused(pointer, refused.detail) from refused


def hammer_task(
    row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE, mask: bool = False
) -> TaskCreate:
    """A row of Hammer's sets: xLAM's shape, with rows whose answer is that no tool fits.

    Raises:
        RowRefused: with a pointer into the row.
    """
    return xlam_task(row, held_out_share=held_out_share, source="hammer", mask=mask)
