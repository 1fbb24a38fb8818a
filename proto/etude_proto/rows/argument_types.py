"""Type names of tool lists, mapped to JSON Schema.

BFCL writes `dict`, `float`, `tuple`; ToolRL's rows also write Python annotations such as
`List[Union[int, float]]` and `str, optional`. Used by `bfcl` and `rlla`. Pure.
"""

from __future__ import annotations

import re

from pydantic import JsonValue

from .stream import JsonObject

_SCALARS = {
    "str": "string",
    "string": "string",
    "char": "string",
    "int": "integer",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "none": "null",
    "nonetype": "null",
    "null": "null",
}
_ARRAYS = {"list", "array", "set", "frozenset", "sequence", "iterable", "tuple"}
_OBJECTS = {"dict", "object", "mapping", "hashmap", "map"}
_ANYTHING = {"any"}

_OPTIONAL_SUFFIX = re.compile(r",\s*optional$", re.IGNORECASE)

_SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("additionalProperties", "not", "contains", "propertyNames")


def type_schema(name: str) -> JsonObject | None:
    """JSON Schema of a type name; `{}` allows anything, None says the name is not known.

    Examples: `float` -> number; `Tuple[int, str]` -> an array of two; `str, optional` -> string
    (being optional is a matter of `required`, not of the type).
    """
    text = _OPTIONAL_SUFFIX.sub("", name.strip())
    alternatives = _parts(text, "|")
    if len(alternatives) > 1:
        return _any_of(alternatives)
    head, bracket, rest = text.partition("[")
    if bracket and not rest.endswith("]"):
        return None
    base = head.strip().lower().removeprefix("typing.")
    arguments = _parts(rest[:-1], ",") if bracket else []
    if base in _ANYTHING:
        return {}
    if base in _SCALARS and not bracket:
        return {"type": _SCALARS[base]}
    if base in _ARRAYS:
        return _array(base, arguments)
    if base in _OBJECTS:
        return _object(arguments)
    if base == "optional" and len(arguments) == 1:
        return _any_of([*arguments, "none"])
    return _any_of(arguments) if base == "union" and arguments else None


def to_json_schema(node: JsonObject) -> JsonObject:
    """A parameter description as JSON Schema (Draft 2020-12), types mapped at every depth.

    A type name that is not known leaves the value unconstrained: a schema that refused right
    answers would be worse. Descriptions, defaults, bounds and unknown keywords stay as they are.
    """
    schema: JsonObject = {}
    for key, value in node.items():
        if key == "type":
            schema = {**_types(value), **schema}
        elif key in _SCHEMA_MAPS and isinstance(value, dict):
            schema[key] = {name: _schema(item) for name, item in value.items()}
        elif key in _SCHEMA_LISTS:
            if isinstance(value, list) and value:
                schema[key] = [_schema(item) for item in value]
        elif key in _SCHEMAS:
            schema[key] = _schema(value)
        elif key == "items":
            if not isinstance(value, list):
                schema["items"] = _schema(value)
            elif value:
                schema["prefixItems"] = [_schema(item) for item in value]
        elif key == "required":
            if isinstance(value, list):
                names = [name for name in value if isinstance(name, str)]
                schema["required"] = list(dict.fromkeys(names))
        elif key == "enum":
            schema["enum"] = value if isinstance(value, list) else [value]
        else:
            schema[key] = value
    return schema


def object_schema(properties: JsonObject) -> JsonObject:
    """Schema of a tool's arguments, of a map from their names to their descriptions."""
    return {
        "type": "object",
        "properties": {name: _schema(node) for name, node in properties.items()},
    }


def _schema(node: JsonValue) -> JsonValue:
    if isinstance(node, dict):
        return to_json_schema(node)
    return node if isinstance(node, bool) else {}


def _types(value: JsonValue) -> JsonObject:
    if isinstance(value, str):
        return type_schema(value) or {}
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return _any_of([str(name) for name in value]) or {}
    return {}


def _array(base: str, arguments: list[str]) -> JsonObject | None:
    schema: JsonObject = {"type": "array"}
    if base == "tuple" and len(arguments) > 1 and arguments[-1] != "...":
        items = [type_schema(argument) for argument in arguments]
        if None in items:
            return None
        return {**schema, "prefixItems": [item for item in items if item is not None]}
    if arguments:
        item = type_schema(arguments[0])
        if item is None:
            return None
        schema["items"] = item
    return schema


def _object(arguments: list[str]) -> JsonObject | None:
    if len(arguments) != 2:
        return {"type": "object"}
    values = type_schema(arguments[1])
    return None if values is None else {"type": "object", "additionalProperties": values}


def _any_of(names: list[str]) -> JsonObject | None:
    found: list[JsonObject] = []
    for name in names:
        schema = type_schema(name)
        if schema is None:
            return None
        if schema not in found:
            found.append(schema)
    if {} in found:
        return {}
    if not all(set(schema) == {"type"} for schema in found):
        return {"anyOf": list(found)}
    types: list[JsonValue] = []
    for schema in found:  # a nested union has a list of types
        own = schema["type"]
        types += [kind for kind in (own if isinstance(own, list) else [own]) if kind not in types]
    return {"type": types[0] if len(types) == 1 else types}


def _parts(text: str, separator: str) -> list[str]:
    """`text` split at the separators that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == separator and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    return [*parts, text[start:].strip()]
