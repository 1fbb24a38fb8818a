"""Gold in ToolRL's output format, read as both reward modes will read it.

The rewards themselves live in the rollout service. What is needed here is to refuse a row whose
gold could not be scored (algorithms.md 2.5, trap 4) and to know which sub-tasks it exercises.
Pure; used by `rlla`, `jsonl` and `subtasks`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pydantic import JsonValue

from .stream import JsonObject, RowRefused
from .strict_json import kind_of, parse_json

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_THOUGHT_ONLY = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Gold:
    """What a gold text asks for."""

    calls: tuple[JsonObject, ...]
    """Calls in the order of the text, each with `name` and `parameters`."""
    num_parameters: int
    """K of algorithms.md 2.2: the parameters of all calls."""
    has_response: bool


def parse_gold(text: str) -> Gold:
    """The gold, if parity and robust parsing (algorithms.md 2.2, 2.6) agree on it.

    Raises:
        RowRefused: with an empty pointer and the reason.
    """
    body = text.rpartition("</think>")[2]
    for tag in ("tool_call", "response"):
        opened, closed = body.count(f"<{tag}>"), body.count(f"</{tag}>")
        if opened != closed or opened > 1 or body.find(f"<{tag}>") > body.find(f"</{tag}>"):
            raise RowRefused("", f"gold needs one <{tag}> and one </{tag}> after it, or neither")
    has_response = "<response>" in body
    if _OPEN not in body:
        if _OPEN in text:
            raise RowRefused("", f"gold names {_OPEN} in its thought and has no call")
        if not has_response and not _THOUGHT_ONLY.fullmatch(text.strip()):
            raise RowRefused("", f"gold has no {_OPEN} and no <response>")
        return Gold((), 0, has_response)
    robust = [_robust_call(line) for line in _inside(body).split("\n") if line.strip()]
    if not robust:
        raise RowRefused("", "gold has a block of calls without a call")
    if _parity_calls(text) != [call for call, _ in robust]:
        raise RowRefused("", f"gold names {_OPEN} in its thought, which parity parsing reads")
    calls = tuple(call for call, _ in robust)
    return Gold(calls, sum(num for _, num in robust), has_response)


def _inside(text: str) -> str:
    return text.partition(_OPEN)[2].partition(_CLOSE)[0].strip()


def _robust_call(line: str) -> tuple[JsonObject, int]:
    """A call, and how many parameters it has."""
    try:
        call = parse_json(line)
    except RowRefused as refused:
        raise RowRefused("", f"gold call: {refused.detail}") from refused
    if not isinstance(call, dict):
        raise RowRefused("", f"gold call: expected an object, found {kind_of(call)}")
    parameters = call.get("parameters")
    if not isinstance(call.get("name"), str) or not isinstance(parameters, dict):
        raise RowRefused("", "gold call: needs a string `name` and an object `parameters`")
    return call, len(parameters)


def _parity_calls(text: str) -> list[JsonValue]:
    """The calls as the published reward reads them: from the first tag, one a line."""
    try:
        return [json.loads(line) for line in _inside(text.strip()).split("\n")]
    except (ValueError, RecursionError) as error:
        reason = f"gold cannot be parsed as the published reward does: {error}"
        raise RowRefused("", reason) from error
