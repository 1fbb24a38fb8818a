"""Rows of trainers as tasks: TRL's `prompt`, and verl's with its answer.

A prompt is a text or a dialogue. The task is the prompt, `tools`, and what other fields of a task
the row has; TRL's other columns belong to the user's reward functions, which read them from the
row. verl's rows say where they come from; their `ground_truth` becomes the metadata's `answer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .chat import text_of
from .function_lists import object_in, tools_in
from .jsonl import jsonl_task
from .own_fields import HELD_OUT, own_fields
from .stream import JsonObject, RowRefused
from .strict_json import kind_of, parse_json

_DIALOGUE = re.compile(r"\s*\[\s*\{")
_ROLES = {"developer": "system", "function": "tool"}


def trl_task(row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE) -> TaskCreate:
    """One row of TRL's prompt-only shape as a task.

    Raises:
        RowRefused: with a pointer into the row.
    """
    line: JsonObject = {"messages": dialogue(row.get("prompt"), "/prompt"), **own_fields(row)}
    if tools := tools_in(row):
        line["tools"] = tools
    return _finished(line, held_out_share)


def verl_task(row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE) -> TaskCreate:
    """One row of verl's shape as a task.

    Raises:
        RowRefused: with a pointer into the row.
    """
    metadata: JsonObject = {}
    rule, extra = object_in(row, "reward_model"), object_in(row, "extra_info")
    if isinstance(rule, dict) and rule.get("ground_truth") is not None:
        metadata["answer"] = rule["ground_truth"]
    line: JsonObject = {
        **own_fields(row, derived=("reference", "calls", "response")),
        "messages": dialogue(row.get("prompt"), "/prompt"),
    }
    if isinstance(extra, dict):
        metadata |= {key: extra[key] for key in ("split", "index") if key in extra}
        if str(extra.get("split")).lower() in HELD_OUT:
            line.setdefault("split", "held_out")
    if isinstance(source := row.get("data_source"), str) and source:
        line["source"] = source
    kept = line.get("metadata")
    line["metadata"] = {**(kept if isinstance(kept, dict) else {}), **metadata}
    return _finished(line, held_out_share)


def dialogue(prompt: JsonValue, where: str) -> list[JsonValue]:
    """A prompt as messages: a text is the user's turn; a dialogue may be its JSON text too.

    Raises:
        RowRefused: it is neither; `where` is the pointer.
    """
    if isinstance(prompt, str):
        parsed = _parsed(prompt)
        if parsed is None:
            if not prompt.strip():
                raise RowRefused(where, "the prompt is empty")
            return [{"role": "user", "content": prompt}]
        prompt = parsed
    if not isinstance(prompt, list) or not prompt:
        raise RowRefused(
            where,
            f"a prompt is a text or a list of messages with role and content: {kind_of(prompt)}",
        )
    return [_message(turn, f"{where}/{number}") for number, turn in enumerate(prompt)]


def _parsed(text: str) -> list[JsonValue] | None:
    """A dialogue written as JSON; None: the text is just a text."""
    if _DIALOGUE.match(text) is None:
        return None
    try:
        value = parse_json(text)
    except RowRefused:
        return None
    is_dialogue = isinstance(value, list) and all(
        isinstance(turn, Mapping) and "role" in turn for turn in value
    )
    return value if is_dialogue and isinstance(value, list) else None


def _message(turn: JsonValue, where: str) -> JsonObject:
    role = turn.get("role") if isinstance(turn, dict) else None
    if not isinstance(turn, dict) or not isinstance(role, str):
        raise RowRefused(where, f"a message has role and content, found {kind_of(turn)}")
    if called := next((key for key in ("tool_calls", "function_call") if turn.get(key)), None):
        raise RowRefused(
            f"{where}/{called}",
            "how a call looks in a prompt is the chat template's matter: write it into content",
        )
    made: JsonObject = {
        "role": _ROLES.get(role, role),
        "content": text_of(turn.get("content"), f"{where}/content"),
    }
    if role in {"tool", "function"} and isinstance(turn.get("name"), str):
        made["name"] = turn["name"]
    return made


def _finished(line: JsonObject, held_out_share: float) -> TaskCreate:
    try:
        return jsonl_task(line, held_out_share=held_out_share)
    except RowRefused as refused:
        pointer = refused.pointer.replace("/messages", "/prompt", 1)
        pointer = "/data_source" if pointer == "/source" else pointer
        raise RowRefused(pointer, refused.detail) from refused
