"""Values of tables and of Python as JSON values: what a row may hold.

`files` uses it for Parquet, `tables` for data sets and iterators. Numbers of numpy and torch
are known by their methods, so that neither is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import cast

from pydantic import BaseModel, JsonValue

from etude_proto.rows.stream import JsonObject, RowRefused, pointer_to
from etude_proto.rows.strict_json import MAX_DEPTH, check_texts

MAX_DIGITS = 1000
"""Longest integer that a decimal becomes (our choice)."""


def json_row(row: Mapping[object, object], *, is_table: bool) -> JsonObject:
    """A row as a JSON object. Columns that are not JSON (an image, a tensor of many) are left out.

    In a typed table all rows have the same fields, and what a row does not have is null there:
    with `is_table` nulls inside objects are left out. NaN as a column's value is pandas' null.

    Raises:
        RowRefused: a text that cannot be stored, or a number that is not finite.
    """
    made: JsonObject = {}
    for name, value in row.items():
        key = str(name)
        if _is_missing(value):
            made[key] = None
            continue
        try:
            made[key] = _value(value, is_table=is_table, depth=1)
        except TypeError:
            continue
        except RowRefused as refused:
            raise RowRefused(pointer_to(key), refused.detail) from refused
        check_texts(made[key], pointer_to(key))
    return made


def _value(value: object, *, is_table: bool, depth: int) -> JsonValue:
    """A value as JSON.

    Raises:
        TypeError: it is not.
        RowRefused: too deep, or not finite.
    """
    if depth > MAX_DEPTH:
        raise RowRefused("", f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str | bool | int | None):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowRefused("", f"{value} is not JSON")
        return float(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, BaseModel):
        return cast("JsonValue", value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {
            str(key): _value(item, is_table=is_table, depth=depth + 1)
            for key, item in value.items()
            if not (is_table and item is None)
        }
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return [_value(item, is_table=is_table, depth=depth + 1) for item in value]
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        raise TypeError(type(value).__name__)
    return _value(to_list(), is_table=is_table, depth=depth + 1)


def _is_missing(value: object) -> bool:
    """Whether it is what pandas writes for null: NaN, or NaT, which is a date too."""
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float | datetime) and value != value


def _number(value: Decimal) -> JsonValue:
    """A decimal as a float if it is the same number, else as an integer, else as its text.

    Raises:
        RowRefused: not finite.
    """
    if not value.is_finite():
        raise RowRefused("", f"{value} is not JSON")
    number = float(value)
    if math.isfinite(number) and Decimal(repr(number)) == value:
        return number
    is_integral = 0 <= value.adjusted() < MAX_DIGITS and value == value.to_integral_value()
    return int(value) if is_integral else str(value)
