"""The shape of xLAM's function-calling rows, which APIGen's and Hammer's sets share, as tasks.

A row has `query`, `tools` and `answers`, the last two as JSON text or as values. Tools describe
their parameters by Python-like type names; an answer without calls means that no tool fits.
"""

from __future__ import annotations

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .argument_types import object_schema, to_json_schema
from .jsonl import jsonl_task
from .stream import JsonObject, RowRefused
from .strict_json import kind_of, parse_json

SOURCE = "xlam"


def xlam_task(row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE) -> TaskCreate:
    """One row as a task.

    Raises:
        RowRefused: with a pointer into the row.
    """
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise RowRefused("/query", f"expected text, found {kind_of(query)}")
    tools: list[JsonValue] = [
        _tool(item, f"/tools/{number}") for number, item in enumerate(_list(row, "tools"))
    ]
    calls: list[JsonValue] = [
        _call(item, f"/answers/{number}") for number, item in enumerate(_list(row, "answers"))
    ]
    line: JsonObject = {
        "messages": [{"role": "user", "content": query}],
        "tools": tools,
        "source": SOURCE,
        "metadata": {"id": row["id"]} if "id" in row else {},
    }
    line |= {"calls": calls} if calls else {"response": True}
    try:
        return jsonl_task(line, held_out_share=held_out_share)
    except RowRefused as refused:
        pointer = refused.pointer.replace("/calls", "/answers", 1).replace("/messages/0", "/query")
        raise RowRefused(pointer, refused.detail) from refused


def _list(row: JsonObject, key: str) -> list[JsonValue]:
    value = row.get(key)
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except RowRefused as refused:
            raise RowRefused(f"/{key}", refused.detail) from refused
    if not isinstance(value, list):
        raise RowRefused(f"/{key}", f"expected an array, or the text of one: {kind_of(value)}")
    return value


def _tool(item: JsonValue, where: str) -> JsonObject:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise RowRefused(where, "expected a tool with a name")
    parameters = item.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    is_schema = isinstance(parameters.get("properties"), dict)
    schema = to_json_schema(parameters) if is_schema else _schema(parameters)
    text = item.get("description")
    return {
        "name": item["name"],
        "description": text if isinstance(text, str) else "",
        "parameters": schema,
    }


def _schema(parameters: JsonObject) -> JsonObject:
    """Parameters by name; those whose type does not end in `optional`, and that have no default,
    are required."""
    required: list[JsonValue] = [
        name
        for name, node in parameters.items()
        if isinstance(node, dict)
        and "default" not in node
        and not str(node.get("type", "")).strip().lower().endswith("optional")
    ]
    schema = object_schema(parameters)
    return {**schema, "required": required} if required else schema


def _call(item: JsonValue, where: str) -> JsonObject:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise RowRefused(where, "expected a call with a name")
    arguments = item.get("arguments", item.get("parameters", {}))
    return {"name": item["name"], "arguments": {} if arguments is None else arguments}
