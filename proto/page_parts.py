"""Parts of generated pages: sentences of fields, values, tables. Used by the pages' modules."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from pydantic import SecretStr
from pydantic.fields import FieldInfo


def sentence_of(owner: str, name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"{owner}.{name} does not explain itself")
    return " ".join(field.description.split())


def default_of(field: FieldInfo) -> str:
    return shown(field.get_default(call_default_factory=True))


def shown(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(*head: str, rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(*head), _row(*("---" for _ in head)), *(_row(*row) for row in rows), ""]


def code(text: str) -> str:
    return f"`{text}`" if text else "unset"
