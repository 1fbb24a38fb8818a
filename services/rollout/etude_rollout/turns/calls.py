"""What a turn of the policy says: its calls, or its answer, by the model family's own form.

`toolrl`: a block `<tool_call>` with one `{"name", "parameters"}` a line (2504.13958). `hermes`
(Qwen, Hermes): a block for every call, `{"name", "arguments"}`. `llama3`: the whole text is such
objects with `parameters`. A call that cannot be read is a `BadCall`: the policy is told why, and
the episode goes on. Nothing that a policy writes makes this raise. Used by `playing.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from ..rewards.toolrl_format import (
    CALL_CLOSE,
    CALL_OPEN,
    RESPONSE_CLOSE,
    RESPONSE_OPEN,
    Blocks,
    after_thought,
    format_ok,
    strict_object,
)
from ..tools.base import ToolCall
from .options import CallFormat

MAX_CALLS_READ = 64
"""Calls of one turn that are read; a turn with more is one bad call (our choice)."""
_PYTHON_TAG = "<|python_tag|>"


@dataclass(frozen=True, slots=True)
class BadCall:
    """Something that was meant as a call; `detail` is what the policy is told."""

    detail: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the policy."""

    calls: tuple[ToolCall | BadCall, ...]
    """In the order in which they stand; none: the turn is an answer."""
    answer: str
    """What is said to the user."""
    is_well_formed: bool
    """Whether the turn has the family's form, every call included."""


def detect_format(chat_template: str | None, *, explains_format: bool) -> CallFormat:
    """The form of calls that a model's prompts ask for.

    Prompts that explain ToolRL's form ask for it, whatever the template knows. Otherwise the
    template tells: Hermes's has the tag and `arguments`, Llama's asks for `parameters` in JSON.
    """
    template = chat_template or ""
    if explains_format:
        return "toolrl"
    if CALL_OPEN in template and "arguments" in template:
        return "hermes"
    if _PYTHON_TAG in template or '"parameters": dictionary' in template:
        return "llama3"
    return "toolrl"


def read_turn(text: str, form: CallFormat) -> Turn:
    """A turn's calls and answer."""
    body = after_thought(text)
    calls = _llama_calls(body) if form == "llama3" else _block_calls(body, form)
    if len(calls) > MAX_CALLS_READ:
        calls = [BadCall(f"more than {MAX_CALLS_READ} calls in one turn")]
    is_good = all(isinstance(call, ToolCall) for call in calls)
    if form == "toolrl":
        has_answer = RESPONSE_OPEN in body
        blocks = Blocks(calls=bool(calls), response=has_answer or not calls)
        is_good = is_good and format_ok(text.strip(), blocks, mode="robust")
    else:
        is_good = is_good and bool(calls or body.strip())
    return Turn(tuple(calls), _answer(body, form), is_good)


def _answer(body: str, form: CallFormat) -> str:
    if form == "toolrl" and RESPONSE_OPEN in body:
        return body.partition(RESPONSE_OPEN)[2].partition(RESPONSE_CLOSE)[0].strip()
    return body.strip()


def _block_calls(body: str, form: CallFormat) -> list[ToolCall | BadCall]:
    calls: list[ToolCall | BadCall] = []
    rest = body
    while CALL_OPEN in rest:
        _, _, rest = rest.partition(CALL_OPEN)
        block, closing, rest = rest.partition(CALL_CLOSE)
        if not closing:
            calls.append(BadCall(f"{CALL_OPEN} without {CALL_CLOSE}"))
            break
        if form == "hermes":
            calls.append(_call(block, key="arguments"))
            continue
        lines = [line for line in block.split("\n") if line.strip()]
        calls += [_call(line, key="parameters") for line in lines]
        if not lines:
            calls.append(BadCall("the call block is empty"))
    return calls


def _llama_calls(body: str) -> list[ToolCall | BadCall]:
    text = body.strip().removeprefix(_PYTHON_TAG).strip()
    if not text.startswith(("{", "[{")):
        return []
    pieces = _objects(text)
    if pieces is None:
        return [BadCall("the call is not JSON")]
    return [_call(piece, key="parameters") for piece in pieces]


def _objects(text: str) -> list[str] | None:
    """The JSON objects that a text consists of, one after another or in a list; None if not so."""
    decoder = json.JSONDecoder()
    found: list[str] = []
    at = 0
    try:
        if text.startswith("["):
            listed, end = decoder.raw_decode(text)
            if text[end:].strip() or not isinstance(listed, list):
                return None
            return [json.dumps(one) for one in listed]
        while at < len(text):
            if text[at] in " \t\r\n;,":
                at += 1
                continue
            _, end = decoder.raw_decode(text, at)
            found.append(text[at:end])
            at = end
    except (ValueError, RecursionError):
        return None
    return found


def _call(text: str, *, key: str) -> ToolCall | BadCall:
    try:
        call = strict_object(text)
    except (ValueError, RecursionError) as error:
        return BadCall(f"the call cannot be read: {str(error)[:200] or 'nested too deeply'}")
    name, parameters = call.get("name"), call.get(key)
    if not isinstance(name, str) or not name:
        return BadCall("the call has no string 'name'")
    if not isinstance(parameters, dict):
        return BadCall(f"the call has no object {key!r}")
    return ToolCall(name, cast(dict[str, JsonValue], parameters))


def well_formed(turns: Sequence[Turn]) -> bool:
    """Whether every turn has the family's form; not if there is none."""
    return bool(turns) and all(turn.is_well_formed for turn in turns)
