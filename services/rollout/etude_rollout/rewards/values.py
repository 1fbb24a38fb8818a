"""Equality of argument values: Python's, JSON's, and BFCL's "is among the allowed ones".

Used by ``gold_calls.py``. Python equality is ToolRL's (algorithms.md 2.5), JSON equality belongs
to mode ``robust`` (2.6, our choice), the allowed values follow the rules of BFCL's AST check (9.2),
restated for JSON values without the tool's schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_DROPPED: Final = str.maketrans("'", '"', " ,./-_*^")

ABSENT: Final = ""
"""BFCL's mark, among the allowed values of an argument, that the argument may be absent."""


def python_equal(left: object, right: object) -> bool:
    """Python's ``==``: True equals 1 equals 1.0."""
    return bool(left == right)


def json_equal(left: object, right: object) -> bool:
    """Equality of JSON values: true differs from 1, 1 equals 1.0; objects are unordered."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            json_equal(value, right[key]) for key, value in left.items()
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    return bool(left == right)


def normalised(text: str) -> str:
    """A string as BFCL compares it: no spaces or ``,./-_*^``, lower case, ' as "."""
    return text.translate(_DROPPED).lower()


def is_allowed(value: object, allowed: Sequence[object]) -> bool:
    """Whether a given argument value is one of BFCL's allowed values.

    The mark of absence is a value of its own only beside strings or nulls, that is, where the
    argument may be an empty string.
    """
    if any(_matches(value, item) for item in allowed if item != ABSENT):
        return True
    if ABSENT not in allowed or not isinstance(value, str) or normalised(value):
        return False
    return all(item is None or isinstance(item, str) for item in allowed)


def _matches(value: object, item: object) -> bool:
    """One allowed value of an argument: an integer will do for a float, not the reverse."""
    if isinstance(item, dict):
        return isinstance(value, dict) and _fills(value, item)
    if isinstance(item, list):
        return (
            isinstance(value, list)
            and len(value) == len(item)
            and all(map(_matches_element, value, item))
        )
    if isinstance(item, int) and isinstance(value, float):
        return False
    return _literal(value, item)


def _matches_element(value: object, item: object) -> bool:
    """One element of a list argument: numbers must be of the listed kind, as in BFCL."""
    if isinstance(item, dict):
        return isinstance(value, dict) and _fills(value, item)
    if isinstance(item, int | float) and type(value) is not type(item):
        return False
    return _literal(value, item)


def _fills(value: Mapping[str, object], template: Mapping[str, object]) -> bool:
    """Whether an object fits one whose every key lists the allowed values."""
    for key, given in value.items():
        if key not in template:
            return False
        listed = template[key]
        choices = listed if isinstance(listed, list) else [listed]
        if not any(_literal(given, choice) for choice in choices):
            return False
    return all(
        key in value or (isinstance(listed, list) and ABSENT in listed)
        for key, listed in template.items()
    )


def _literal(value: object, item: object) -> bool:
    """Equality of JSON values in which strings compare normalised."""
    if isinstance(value, str) and isinstance(item, str):
        return normalised(value) == normalised(item)
    if isinstance(value, list) and isinstance(item, list):
        return len(value) == len(item) and all(map(_literal, value, item))
    if isinstance(value, dict) and isinstance(item, dict):
        return value.keys() == item.keys() and all(
            _literal(given, item[key]) for key, given in value.items()
        )
    return json_equal(value, item)
