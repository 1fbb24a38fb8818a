"""The project's shared data, `../shared/data` beside the repository: worked numbers and samples."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TypeAlias

import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Read-only; it exists wherever the tests run."""

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | int | bool | None"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the shared data."""
    return SHARED_DATA


class Examples:
    """One JSON document of worked numbers, read by path of keys."""

    def __init__(self, document: Json) -> None:
        """Wrap a parsed document."""
        self._document = document

    def at(self, *path: str | int) -> Examples:
        """The part of the document at `path`."""
        node = self._document
        for key in path:
            if isinstance(node, list) and isinstance(key, int):
                node = node[key]
            elif isinstance(node, dict) and isinstance(key, str):
                node = node[key]
            else:
                raise KeyError(path)
        return Examples(node)

    def rows(self, *path: str | int) -> list[Examples]:
        """The list at `path`."""
        node = self.at(*path)._document
        if not isinstance(node, list):
            raise TypeError(f"{path} is no list")
        return [Examples(row) for row in node]

    def has(self, key: str) -> bool:
        """Whether this object has `key`."""
        return isinstance(self._document, dict) and key in self._document

    def number(self, *path: str | int) -> float:
        """The number at `path`."""
        node = self.at(*path)._document
        if isinstance(node, bool) or not isinstance(node, int | float):
            raise TypeError(f"{path} is no number")
        return float(node)

    def numbers(self, *path: str | int) -> dict[str, float]:
        """The object of numbers at `path`."""
        node = self.at(*path)
        if not isinstance(node._document, dict):
            raise TypeError(f"{path} is no object")
        return {name: node.number(name) for name in node._document}

    def text(self, *path: str | int) -> str:
        """The string at `path`."""
        node = self.at(*path)._document
        if not isinstance(node, str):
            raise TypeError(f"{path} is no string")
        return node


@functools.cache
def examples(name: str) -> Examples:
    """A JSON document of the shared data."""
    return Examples(json.loads((SHARED_DATA / name).read_text(encoding="utf-8")))
