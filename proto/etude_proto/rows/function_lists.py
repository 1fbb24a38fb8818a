"""Lists of tools and of calls as public sets have them, in the OpenAI-like shape's form.

Tools describe their parameters by a map of names, or by an object schema, with Python-like type
names. Shared by `xlam`, `toolace` and `apibank`. Pure.
"""

from __future__ import annotations

from pydantic import JsonValue

from .argument_types import object_schema, to_json_schema
from .stream import JsonObject, RowRefused
from .strict_json import kind_of, parse_json


def list_in(row: JsonObject, key: str) -> list[JsonValue]:
    """A column that holds an array, or the JSON text of one.

    Raises:
        RowRefused: it does not.
    """
    value = row.get(key)
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except RowRefused as refused:
            raise RowRefused(f"/{key}", refused.detail) from refused
    if not isinstance(value, list):
        raise RowRefused(f"/{key}", f"expected an array, or the text of one: {kind_of(value)}")
    return value


def tools_in(row: JsonObject) -> list[JsonValue]:
    """The tools on offer; OpenAI's older name of the column is `functions`.

    Raises:
        RowRefused: it holds no list.
    """
    key = next((key for key in ("tools", "functions") if row.get(key)), None)
    return [] if key is None else list_in(row, key)


def object_in(row: JsonObject, key: str) -> JsonValue:
    """A column's value; the JSON text of an object is read.

    Raises:
        RowRefused: such a text is no JSON.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return parse_json(value)
    except RowRefused as refused:
        raise RowRefused(f"/{key}", refused.detail) from refused


def tool_of(item: JsonValue, where: str, *, parameters: str = "parameters") -> JsonObject:
    """A tool with JSON Schema; `parameters` names the field that describes them.

    Raises:
        RowRefused: it has no name; `where` is the pointer.
    """
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise RowRefused(where, "expected a tool with a name")
    described = _object(item.get(parameters), where, parameters)
    is_schema = isinstance(described.get("type"), str)  # a parameter called `type` is an object
    schema = to_json_schema(described) if is_schema else _schema(described)
    text = item.get("description")
    return {
        "name": item["name"],
        "description": text if isinstance(text, str) else "",
        "parameters": schema,
    }


def call_of(item: JsonValue, where: str) -> JsonObject:
    """A gold call with its arguments.

    Raises:
        RowRefused: it has no name; `where` is the pointer.
    """
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise RowRefused(where, "expected a call with a name")
    arguments = item.get("arguments", item.get("parameters", {}))
    return {"name": item["name"], "arguments": {} if arguments is None else arguments}


def _object(value: JsonValue, where: str, name: str) -> JsonObject:
    """An object, or the JSON text of one; nothing is an empty one."""
    if isinstance(value, str) and value.strip():
        try:
            value = parse_json(value)
        except RowRefused as refused:
            raise RowRefused(where, f"{name}: {refused.detail}") from refused
    if value is None or value == "" or value == []:
        return {}
    if not isinstance(value, dict):
        raise RowRefused(where, f"{name}: expected an object, found {kind_of(value)}")
    return value


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
