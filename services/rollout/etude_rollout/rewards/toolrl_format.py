"""ToolRL's completion format: the only place that knows its tags.

``format_ok`` is the format check, ``parity_calls`` and ``robust_calls`` read the predicted calls,
``call_block_lines`` and ``strict_call`` serve ``gold.py``. Another output format is another module
beside this one. Sources: algorithms.md 2.1 (ToolRL) and 2.6 (``robust``, our choice).
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Final, NamedTuple

from .config import Mode

THINK_OPEN: Final = "<think>"
THINK_CLOSE: Final = "</think>"
CALL_OPEN: Final = "<tool_call>"
CALL_CLOSE: Final = "</tool_call>"
RESPONSE_OPEN: Final = "<response>"
RESPONSE_CLOSE: Final = "</response>"


class Blocks(NamedTuple):
    """Which blocks a gold has after its thought."""

    calls: bool
    response: bool


_THOUGHT = r"^<think>.*?</think>"
_CALLS = r"\n<tool_call>\n.*?\n</tool_call>"
_RESPONSE = r"\n<response>.*?</response>"
_PATTERNS: Final = {
    Blocks(calls=calls, response=response): re.compile(
        _THOUGHT + (_CALLS if calls else "") + (_RESPONSE if response else "") + "$", re.DOTALL
    )
    for calls in (False, True)
    for response in (False, True)
}


def format_ok(text: str, blocks: Blocks, *, mode: Mode) -> bool:
    """Whether a stripped completion has the form that the gold's blocks ask for.

    ``parity``: ToolRL's pattern, and exactly one of each tag of the gold's blocks. ``robust``
    also asks for exactly one thought and for no other tag in the body.
    """
    if mode == "robust":
        if text.count(THINK_OPEN) != 1 or text.count(THINK_CLOSE) != 1:
            return False
        body = after_thought(text)
        if not _has_exactly(body, CALL_OPEN, CALL_CLOSE, int(blocks.calls)):
            return False
        if not _has_exactly(body, RESPONSE_OPEN, RESPONSE_CLOSE, int(blocks.response)):
            return False
    else:
        if blocks.calls and not _has_exactly(text, CALL_OPEN, CALL_CLOSE, 1):
            return False
        if blocks.response and not _has_exactly(text, RESPONSE_OPEN, RESPONSE_CLOSE, 1):
            return False
    # The counts come first: they bound the backtracking of the pattern.
    return _PATTERNS[blocks].search(text) is not None


def _has_exactly(text: str, opening: str, closing: str, number: int) -> bool:
    return text.count(opening) == number and text.count(closing) == number


def after_thought(text: str) -> str:
    """The body: what follows the last end of a thought, or everything if no thought ends."""
    return text.rpartition(THINK_CLOSE)[2]


def thought_words(text: str) -> int | None:
    """Words from the last ``<think>`` to the next ``</think>``; None unless both tags occur."""
    if THINK_OPEN not in text or THINK_CLOSE not in text:
        return None
    return len(text.rpartition(THINK_OPEN)[2].partition(THINK_CLOSE)[0].split())


def call_block_lines(text: str) -> list[str]:
    """Lines of the first call block, stripped at both ends; one empty line if it is empty.

    As ToolRL cuts it: from the first opening tag to the next tag of either kind, a missing closing
    tag ending at the end of the text. The caller has made sure of an opening tag.
    """
    block = text.split(CALL_OPEN, 2)[1].partition(CALL_CLOSE)[0]
    return block.strip().split("\n")


def parity_calls(text: str) -> list[object] | None:
    """The predicted calls as ToolRL reads them: any JSON values, one a line; None on failure.

    Both tags must occur somewhere in the text. What a line must hold is decided when it is
    examined (algorithms.md 2.5), not here.
    """
    if CALL_OPEN not in text or CALL_CLOSE not in text:
        return None
    try:
        return [json.loads(line) for line in call_block_lines(text)]
    except (ValueError, RecursionError):
        return None


def robust_calls(text: str) -> list[dict[str, object]] | None:
    """The predicted calls by the strict rules, from the body; None on failure.

    Every call has a string ``name`` and an object ``parameters``; blank lines are skipped.
    """
    _, opening, rest = after_thought(text).partition(CALL_OPEN)
    block, closing, _ = rest.partition(CALL_CLOSE)
    if not opening or not closing:
        return None
    try:
        return [strict_call(line) for line in block.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def strict_call(line: str) -> dict[str, object]:
    """One call, refusing duplicate keys, NaN, infinities and other shapes.

    Raises ValueError with the fault, or RecursionError for JSON nested too deeply to read.
    """
    call = strict_object(line)
    if not isinstance(call.get("name"), str):
        raise ValueError("a call needs a string 'name'")
    if not isinstance(call.get("parameters"), dict):
        raise ValueError("a call needs an object 'parameters'")
    return call


def strict_object(text: str) -> dict[str, object]:
    """One JSON object, refusing duplicate keys, NaN and infinities; raises as `strict_call`."""
    call: object = _STRICT.decode(text.strip())
    if not isinstance(call, dict):
        raise ValueError("a call must be a JSON object")
    return call


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key in a JSON object")
    return result


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"{digits} is too large for a number")
    return value


_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
)
