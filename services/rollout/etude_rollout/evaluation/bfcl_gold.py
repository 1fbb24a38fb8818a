"""Right answers to BFCL's rows, built from their listed values.

An evaluation that answers with these must get next to everything right: that checks prompts,
parsing and checker together (`oracle.py`). For Java and JavaScript a value is written as source
text, as the checker reads it. Used by `bfcl.py`. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue

ABSENT = ""
"""BFCL's mark, among the allowed values of an argument, that the argument may be absent."""

NamedCall = tuple[str, JsonValue]


def gold_calls(row: Mapping[str, JsonValue], *, language: str | None = None) -> list[NamedCall]:
    """The first listed value of every argument; `language` is null, `java` or `javascript`.

    A row without gold (relevance) gets a call of its first function.
    """
    functions = row["function"]
    truth = row.get("ground_truth")
    if not isinstance(truth, list):
        first = functions[0] if isinstance(functions, list) else {}
        return [(str(first["name"]) if isinstance(first, dict) else "", {})]
    calls: list[NamedCall] = []
    for call in truth:
        for name, arguments in call.items() if isinstance(call, dict) else ():
            schema = _schema(functions, name)
            given = _given(arguments, schema)
            if language is not None:
                kinds = _kinds(schema)
                given = {
                    key: _source(value, *kinds.get(key, ("any", "any")), language)
                    for key, value in given.items()
                }
            calls.append((name, given))
    return calls


def _given(arguments: JsonValue, schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Arguments with their first listed values.

    One that may be absent is left out if the tool does not know it, or if absence is listed first
    and the tool does not require it.
    """
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, dict) else {}
    asked = required if isinstance(required, list) else []
    given: dict[str, JsonValue] = {}
    for name, allowed in arguments.items() if isinstance(arguments, dict) else ():
        listed = allowed if isinstance(allowed, list) else [allowed]
        values = [value for value in listed if value != ABSENT]
        may_be_absent = len(values) < len(listed)
        if not listed:
            given[name] = []
        elif not values or (may_be_absent and name not in known):
            continue
        elif listed[0] != ABSENT or name in asked:
            given[name] = _filled(values[0])
    return given


def _filled(value: JsonValue) -> JsonValue:
    """A listed value, objects of lists of allowed values made into plain objects."""
    if isinstance(value, dict):
        return _given(value, {"properties": value})
    if isinstance(value, list):
        return [_filled(each) if isinstance(each, dict) else each for each in value]
    return value


def _schema(functions: JsonValue, name: str) -> dict[str, JsonValue]:
    """Parameters of the function of this name; empty if there is none."""
    for function in functions if isinstance(functions, list) else ():
        if isinstance(function, dict) and function.get("name") == name:
            parameters = function.get("parameters")
            return parameters if isinstance(parameters, dict) else {}
    return {}


def _kinds(schema: Mapping[str, JsonValue]) -> dict[str, tuple[str, str]]:
    """Type, and type of the elements, of a function's arguments."""
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    return {key: _kind(about) for key, about in known.items()}


def _kind(schema: JsonValue) -> tuple[str, str]:
    about = schema if isinstance(schema, dict) else {}
    items = about.get("items")
    inner = items.get("type", "any") if isinstance(items, dict) else "any"
    return str(about.get("type", "any")), str(inner)


def _source(value: JsonValue, kind: str, inner: str, language: str) -> str:
    """A value as source text of its language."""
    if isinstance(value, str):
        return value
    if language == "java":
        return _java(value, kind, inner)
    return json.dumps(value)


def _java(value: JsonValue, kind: str, inner: str) -> str:
    if isinstance(value, list):
        texts = ", ".join(_java_element(each, inner) for each in value)
        if kind == "Array":
            return f"new {inner}[]{{{texts}}}"
        return f"new ArrayList<{inner}>(Arrays.asList({texts}))"
    if isinstance(value, dict):
        puts = "".join(f'put("{key}", {_java_element(v, "any")}); ' for key, v in value.items())
        return f"new HashMap<String, Object>() {{{{ {puts}}}}}"
    if kind == "long":
        return f"{value}L"
    if kind == "float":
        return f"{value}f"
    return json.dumps(value)


def _java_element(value: JsonValue, inner: str) -> str:
    if isinstance(value, str):
        return f"'{value}'" if inner == "char" else f'"{value}"'
    return _java(value, inner, "any")
