"""JSON arrays of objects, an element at a time: the files of ToolACE, xLAM and API-Bank are such.

Used by `files`. What is read ahead is at most one element and one piece of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from etude_proto.rows.stream import JsonObject, RowRefused
from etude_proto.rows.strict_json import kind_of, parse_json

PIECE_CHARS = 2**18
MAX_ELEMENT_CHARS = 16 * 2**20
"""Longest element that is read; a longer one ends the array, for its end cannot be found."""

_MARKS = re.compile(r'["{}\[\]]')
_IN_TEXT = re.compile(r'["\\]')


def array_objects(file: TextIO) -> Iterator[tuple[int, JsonObject | RowRefused]]:
    """The elements of the array with their numbers from 1, or why one is no object.

    A text that is cut short or goes on after the array ends the stream with a fault.
    """
    number = 0
    for number, text in enumerate(_elements(file), start=1):
        if isinstance(text, RowRefused):
            yield number, text
            return
        try:
            if not _is_utf8(text):
                raise RowRefused("", "not UTF-8")
            value = parse_json(text)
            if not isinstance(value, dict):
                raise RowRefused("", f"expected an object, found {kind_of(value)}")
            yield number, value
        except RowRefused as refused:
            yield number, refused


def _elements(file: TextIO) -> Iterator[str | RowRefused]:
    """The texts between the array's commas."""
    buffer = file.read(PIECE_CHARS).lstrip()[1:]
    position, is_first = 0, True
    while True:
        found = _end_of_element(buffer, position)
        while found is None:
            more = file.read(PIECE_CHARS)
            buffer, position = buffer[position:] + more, 0
            if not more:
                yield RowRefused("", "the array is cut short: no ] at the end of the file")
                return
            if len(buffer) > MAX_ELEMENT_CHARS:
                yield RowRefused("", f"longer than {MAX_ELEMENT_CHARS // 2**20} Mi characters")
                return
            found = _end_of_element(buffer, 0)
        text = buffer[position:found].strip()
        if text or not (is_first and buffer[found] == "]"):
            yield text
        is_first = False
        if buffer[found] == "]":
            if (buffer[found + 1 :] + file.read(PIECE_CHARS)).strip():
                yield RowRefused("", "there is something after the array")
            return
        position = found + 1


def _is_utf8(text: str) -> bool:
    """Whether no byte had to be escaped when the file was decoded (`surrogateescape`)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _end_of_element(text: str, start: int) -> int | None:
    """Where the comma or bracket after the element stands; None if not in this text."""
    depth, position = 0, start
    for_end = re.compile(r'["{}\[\],]')
    while (found := (_MARKS if depth else for_end).search(text, position)) is not None:
        position = found.end()
        mark = found.group()
        if mark == '"':
            end = _end_of_text(text, position)
            if end is None:
                return None
            position = end
        elif mark in "{[":
            depth += 1
        elif depth == 0:
            return found.start()
        else:
            depth -= 1
    return None


def _end_of_text(text: str, position: int) -> int | None:
    while (found := _IN_TEXT.search(text, position)) is not None:
        if found.group() == '"':
            return found.end()
        position = found.end() + 1
    return None
