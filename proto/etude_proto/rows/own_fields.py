"""A task's own fields beside the columns of another shape: what a row says itself is kept.

A column that merely shares a field's name (a `response` in words, a `source` with spaces) stays
with the user: fields are told by what they hold. Pure; used by every converter.
"""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter, ValidationError

from ..v1 import Split
from ..v1.base import Name
from .stream import JsonObject

HELD_OUT = frozenset({"held_out", "test", "val", "valid", "validation", "dev", "eval"})
"""Names of splits that are not trained on."""

GOLD = ("reference", "calls", "response", "environment")
"""Fields of which any makes a row a task of its own."""

_OBJECTS = frozenset({"metadata", "reference", "aids", "environment"})
_NAME = TypeAdapter[str](Name)


def own_fields(row: JsonObject, *, derived: tuple[str, ...] = ()) -> JsonObject:
    """The task fields that a row has, less those which its shape derives by itself."""
    names = ("subtasks", "split", "source", "metadata", "aids", *GOLD)
    return {
        name: row[name]
        for name in names
        if name not in derived and row.get(name) is not None and _is_meant(name, row[name])
    }


def own_split(row: JsonObject) -> Split | None:
    """The split that a row names, as a task does."""
    split = row.get("split")
    return Split(split) if isinstance(split, str) and _is_meant("split", split) else None


def has_gold(row: JsonObject) -> bool:
    """Whether a row has a task's gold beside its messages."""
    return any(name in row and _is_meant(name, row[name]) for name in GOLD)


def _is_meant(name: str, value: JsonValue) -> bool:
    """Whether a value is of its field's kind; lists and objects may be JSON text."""
    text = value.lstrip()[:1] if isinstance(value, str) else ""
    if name in _OBJECTS:
        return isinstance(value, dict) or text == "{"
    if name == "calls":
        return isinstance(value, list) or text == "["
    if name == "response":
        return isinstance(value, bool)
    if name == "split":
        return isinstance(value, str) and value in set(Split)
    return name != "source" or _is_name(value)


def _is_name(value: JsonValue) -> bool:
    try:
        _NAME.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
