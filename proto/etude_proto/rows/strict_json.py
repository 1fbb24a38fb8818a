"""Strict JSON: what is refused here would be read differently by different programs.

Duplicate keys, NaN, infinities, numbers beyond a double, U+0000 and lone surrogates are refused;
PostgreSQL can store none of the last two. Used by `files` for rows and by `toolrl_gold` for gold.
"""

from __future__ import annotations

import json
import math

from pydantic import JsonValue

from .stream import JsonObject, RowRefused, pointer_to

MAX_DEPTH = 60
"""Deepest nesting of objects and arrays in a row; the rewards refuse gold from 64 levels on."""

_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def parse_json(text: str) -> JsonValue:
    """The value that `text` holds.

    Raises:
        RowRefused: with an empty pointer, or with the place of a text that cannot be stored.
    """
    try:
        value: JsonValue = json.loads(
            text,
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise RowRefused("", f"not JSON: {error.msg} (character {error.pos + 1})") from error
    except RecursionError as error:
        raise RowRefused("", _TOO_DEEP) from error
    except RowRefused:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise RowRefused("", f"not JSON: {error}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(value):
        raise RowRefused("", _TOO_DEEP)
    if "\\u" in text:
        check_texts(value)
    return value


def parse_object(line: bytes) -> JsonObject:
    """The JSON object on one line of UTF-8.

    Raises:
        RowRefused: not UTF-8, not JSON, not an object, or not storable.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise RowRefused("", f"not UTF-8 (byte {error.start + 1})") from error
    value = parse_json(text)
    if not isinstance(value, dict):
        raise RowRefused("", f"expected an object, found {kind_of(value)}")
    return value


def check_texts(value: object, pointer: str = "") -> None:
    """Refuse a value that holds a text which UTF-8 or PostgreSQL cannot hold.

    Raises:
        RowRefused: with the place of the text.
    """
    if isinstance(value, str):
        if "\x00" in value:
            raise RowRefused(pointer, "contains the character U+0000")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowRefused(pointer, "contains half of a surrogate pair") from error
    elif isinstance(value, dict):
        for key, item in value.items():
            check_texts(key, pointer)
            check_texts(item, pointer + pointer_to(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_texts(item, pointer + pointer_to(index))


def kind_of(value: object) -> str:
    """What JSON calls the value, with its article: for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def _is_too_deep(value: JsonValue) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[JsonValue] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return True


def _object_without_duplicates(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RowRefused("", f"the key {json.dumps(key)} appears twice in one object")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> float:
    raise RowRefused("", f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise RowRefused("", f"the number {text[:32]} is too large")
    return number
