"""Tools without telling names: a policy has to read what they do.

The idea is Hammer's function masking (2410.04587): names of functions and of their parameters are
replaced by strings that mean nothing, descriptions stay. How the strings are made is our choice:
by a hash of the question and the name, so that a row always gives the same task. Pure.
"""

from __future__ import annotations

import contextlib
import hashlib

from pydantic import JsonValue

from .stream import JsonObject, RowRefused
from .strict_json import parse_json

_DIGITS = 6


def masked(
    query: str, tools: list[JsonObject], calls: list[JsonObject]
) -> tuple[list[JsonObject], list[JsonObject]]:
    """Tools and calls with names hidden in both alike.

    A call of a tool that is not on offer keeps its name, and an argument that its tool does not
    have keeps its own: whoever checks the row finds them as they are.
    """
    names = {str(tool["name"]): _hidden("func", query, str(tool["name"])) for tool in tools}
    arguments = {str(tool["name"]): _arguments(query, tool) for tool in tools}
    return (
        [_tool(tool, names, arguments[str(tool["name"])]) for tool in tools],
        [_call(call, names, arguments.get(str(call["name"]), {})) for call in calls],
    )


def _hidden(kind: str, *parts: str) -> str:
    digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
    return f"{kind}_{digest[:_DIGITS]}"


def _arguments(query: str, tool: JsonObject) -> dict[str, str]:
    schema = tool["parameters"]
    properties = schema.get("properties") if isinstance(schema, dict) else None
    named = properties if isinstance(properties, dict) else {}
    return {name: _hidden("arg", query, str(tool["name"]), name) for name in named}


def _tool(tool: JsonObject, names: dict[str, str], arguments: dict[str, str]) -> JsonObject:
    schema = tool["parameters"]
    if isinstance(schema, dict) and isinstance(properties := schema.get("properties"), dict):
        required = schema.get("required")
        schema = {
            **schema,
            "properties": {arguments[name]: node for name, node in properties.items()},
        }
        if isinstance(required, list):
            hidden: list[JsonValue] = [arguments.get(str(name), name) for name in required]
            schema["required"] = hidden
    return {**tool, "name": names[str(tool["name"])], "parameters": schema}


def _call(call: JsonObject, names: dict[str, str], arguments: dict[str, str]) -> JsonObject:
    given = call["arguments"]
    if isinstance(given, str):
        with contextlib.suppress(RowRefused):  # said by whoever checks the row
            given = parse_json(given)
    if isinstance(given, dict):
        given = {arguments.get(name, name): value for name, value in given.items()}
    return {"name": names.get(str(call["name"]), call["name"]), "arguments": given}
