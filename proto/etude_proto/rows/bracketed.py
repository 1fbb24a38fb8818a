"""Calls written as text: `[Name of tool(key="value", other=[1, 2]), second()]`.

ToolACE and API-Bank write gold like this. It is nearly Python: names may have spaces, values may be
Python's or JSON's (`True` or `true`). Nothing is evaluated but literals. Pure.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable
from typing import cast

from pydantic import JsonValue

from .stream import JsonObject, RowRefused
from .strict_json import MAX_DEPTH, check_texts, parse_json

_BEGUN = re.compile(r"\[\s*[^\s\[\](){}][^\[\]{}\"'=(]*\(")
_BRACKET = re.compile(r"\s*\(")
_KEY = re.compile(r"\s*([^=\"'(){}\[\],]+?)\s*=\s*")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_STOP = re.compile(r"[\"'(){}\[\],]")
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None, "none": None}


def looks_like_calls(text: str) -> bool:
    """Whether the whole text is a bracketed list of calls."""
    body = text.strip()
    if not body.endswith("]") or not body[:-1].rstrip().endswith(")"):
        return False
    begun = _BEGUN.match(body)
    return begun is not None and body.rfind(")") >= begun.end()


def calls_or_words(text: str, names: Iterable[str]) -> list[JsonObject]:
    """The calls of an assistant's turn; none if it is an answer in words.

    Raises:
        RowRefused: it calls a tool on offer, or looks as if it did, and cannot be read as calls.
    """
    known = list(names)
    offered = "|".join(re.escape(name) for name in known if name)
    named = re.search(rf"(?<!\w)({offered})\s*\(", text) if offered else None
    if named is None:
        return bracketed_calls(text, known) if looks_like_calls(text) else []
    try:
        return bracketed_calls(text, known)
    except RowRefused as refused:
        detail = f"it names {named[1]!r} with an opening bracket, and is no list of calls"
        raise RowRefused("", f"{detail}: {refused.detail}") from refused


def bracketed_calls(text: str, names: Iterable[str] = ()) -> list[JsonObject]:
    """The calls, each with `name` and `parameters`.

    `names` are those of the tools on offer, for names that hold brackets themselves.

    Raises:
        RowRefused: with an empty pointer, and what is wrong where.
    """
    body = text.strip()
    if not (body.startswith("[") and body.endswith("]")):
        raise RowRefused("", "expected [name(key=value, ...), ...]")
    known = sorted(names, key=len, reverse=True)
    calls: list[JsonObject] = []
    position, end = 1, len(body) - 1
    while body[position:end].strip():
        call, position = _call(body, position, end, known)
        calls.append(call)
        rest = body[position:end].lstrip()
        if rest and not rest.startswith(","):
            raise RowRefused("", f"expected a comma after call {len(calls)}: {rest[:40]!r}")
        position = end - len(rest) + 1 if rest else end
    return calls


def _call(body: str, position: int, end: int, known: list[str]) -> tuple[JsonObject, int]:
    """The call at a position, and the position after it."""
    start = position + len(body[position:end]) - len(body[position:end].lstrip())
    name = next((one for one in known if _opening(body, start, one) >= 0), None)
    if name is None:
        opening = body.find("(", start, end)
        name = body[start:opening].strip() if opening >= 0 else ""
        if not name or any(mark in name for mark in "[]{}\"'=,"):
            raise RowRefused("", f"no call of a tool: {body[start:end][:40]!r}")
        after = opening + 1
    else:
        after = _opening(body, start, name)
    parameters: JsonObject = {}
    while True:
        rest = body[after:end].lstrip()
        after = end - len(rest)
        if rest.startswith(")"):
            return {"name": name, "parameters": parameters}, after + 1
        found = _KEY.match(body, after, end)
        if found is None:
            raise RowRefused("", f"{name}: expected key=value: {rest[:40]!r}")
        key = found[1]
        if key in parameters:
            raise RowRefused("", f"{name}: {key} is given twice")
        stop = _end_of_value(body, found.end(), end)
        parameters[key] = _value(body[found.end() : stop].strip(), f"{name}: {key}")
        after = stop + 1 if body[stop] == "," else stop


def _opening(body: str, start: int, name: str) -> int:
    """The position after a name and its bracket, with or without spaces between; -1: neither."""
    if not body.startswith(name, start):
        return -1
    found = _BRACKET.match(body, start + len(name))
    return found.end() if found is not None else -1


def _end_of_value(body: str, position: int, end: int) -> int:
    """Where the comma or bracket after a value stands."""
    depth = 0
    while (found := _STOP.search(body, position, end)) is not None:
        mark, position = found.group(), found.end()
        if mark in "\"'":
            quoted = _QUOTED.match(body, found.start(), end)
            if quoted is None:
                raise RowRefused("", f"a quote without its end: {body[found.start() :][:40]!r}")
            position = quoted.end()
        elif mark in "([{":
            depth += 1
        elif depth and mark in ")]}":
            depth -= 1
        elif not depth and mark in ",)":
            return found.start()
    raise RowRefused("", "a call without its closing bracket")


def _value(text: str, where: str) -> JsonValue:
    """A literal of Python or JSON."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return parse_json(text)
    except RowRefused:
        pass
    return python_value(text, where)


def python_value(text: str, where: str) -> JsonValue:
    """A literal of Python's as a JSON value: tuples are lists.

    Raises:
        RowRefused: it is none.
    """
    try:
        value = _plain(ast.literal_eval(text), 0)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise RowRefused("", f"{where} is no value: {text[:40]!r}") from error
    check_texts(value)
    return value


def _plain(value: object, depth: int) -> JsonValue:
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("keys must be texts")
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    if value is None or isinstance(value, str | bool | int | float):
        return cast("JsonValue", value)
    raise ValueError(type(value).__name__)
