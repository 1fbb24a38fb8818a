"""ToolACE's rows as tasks: `system` with a JSON list of functions, and `conversations`.

The assistant's calls are bracketed text (`bracketed`); the task is the dialogue up to the first of
them (`turns`). The functions become `tools`. The rest of the system text asks for the bracketed
format, which is not what rewards read, and is left out, but for sentences that say the date.
"""

from __future__ import annotations

import json
import re

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .bracketed import calls_or_words
from .function_lists import tool_of
from .jsonl import jsonl_task
from .own_fields import GOLD, own_fields
from .stream import JsonObject, RowRefused
from .strict_json import kind_of, parse_json
from .turns import Turn, cut

SOURCE = "toolace"

_LIST = re.compile(r"\[\s*\{")
_DATE = re.compile(
    r"(?:\b(?:today(?:'s date)? is|(?:the )?current (?:date|time|year)\b)[^\n]*?)"
    r"(?:\.(?=\s|$)|(?=\n)|$)",
    re.IGNORECASE,
)
_ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
    "observation": "tool",
    "system": "system",
}


def toolace_task(row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE) -> TaskCreate:
    """One row as a task.

    Raises:
        RowRefused: with a pointer into the row.
    """
    system = row.get("system")
    if not isinstance(system, str):
        raise RowRefused("/system", f"expected text, found {kind_of(system)}")
    tools = _tools(system)
    line = cut(_turns(row.get("conversations"), tools), "/conversations")
    if dated := date_said(system):
        messages = line["messages"]
        assert isinstance(messages, list)
        line["messages"] = [{"role": "system", "content": dated}, *messages]
    metadata: JsonObject = {"id": row["id"]} if "id" in row else {}
    line |= own_fields(row, derived=("source", "metadata", *GOLD))
    line |= {"tools": list[JsonValue](tools), "source": SOURCE, "metadata": metadata}
    try:
        return jsonl_task(line, held_out_share=held_out_share)
    except RowRefused as refused:
        place = "/system" if refused.pointer.startswith("/tools") else "/conversations"
        raise RowRefused(place, refused.detail) from refused


def date_said(text: str) -> str:
    """The sentences that tell what day it is; empty without any."""
    return " ".join(found.group().strip() for found in _DATE.finditer(text))


def _tools(system: str) -> list[JsonObject]:
    found = _LIST.search(system)
    if found is None:
        raise RowRefused("/system", "no JSON list of functions in it")
    try:
        _, end = json.JSONDecoder().raw_decode(system, found.start())
        items = parse_json(system[found.start() : end])
    except (ValueError, RecursionError) as error:
        detail = error.detail if isinstance(error, RowRefused) else str(error)
        raise RowRefused("/system", f"its list of functions: {detail}") from error
    assert isinstance(items, list)
    return [tool_of(item, "/system") for item in items]


def _turns(conversations: JsonValue, tools: list[JsonObject]) -> list[Turn]:
    if not isinstance(conversations, list):
        raise RowRefused(
            "/conversations", f"expected an array of turns, found {kind_of(conversations)}"
        )
    names = [str(tool["name"]) for tool in tools]
    turns = []
    for number, turn in enumerate(conversations):
        where = f"/conversations/{number}"
        if not isinstance(turn, dict):
            raise RowRefused(where, f"expected an object, found {kind_of(turn)}")
        role, text = _ROLES.get(str(turn.get("from"))), turn.get("value")
        if role is None or not isinstance(text, str):
            raise RowRefused(where, "expected `from` (user, assistant, tool) and a text `value`")
        calls: list[JsonObject] = []
        if role == "assistant":
            try:
                calls = calls_or_words(text, names)
            except RowRefused as refused:
                raise RowRefused(f"{where}/value", refused.detail) from refused
        turns.append(Turn(role, text, tuple(calls)))
        if calls:
            break  # what comes after the policy's turn is not needed
    return turns
