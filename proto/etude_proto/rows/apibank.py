"""API-Bank's rows as tasks: as ToolRL processed them, and as API-Bank publishes them.

API-Bank is an evaluation set: every task says so in its metadata and is held out, whatever the
share, unless the row itself has a `split`. Gold that calls a tool which the row does not list
stays: published figures count it.
ToolRL's rows have `system`, `user` and `answer`, and keep their prompt as it is; API-Bank's
have `instruction` (with one JSON description an API), `input` and `expected_output`.
"""

from __future__ import annotations

import re

from pydantic import JsonValue

from ..v1 import TaskCreate
from .bracketed import bracketed_calls, python_value
from .function_lists import call_of, tool_of
from .jsonl import jsonl_task
from .own_fields import GOLD, own_fields
from .stream import JsonObject, RowRefused
from .strict_json import kind_of, parse_json
from .toolace import date_said

SOURCE = "api_bank"
REQUEST = "API-Request:"

_DESCRIPTIONS = "API descriptions:"
_ASKED = re.compile(r"\n?Generate (?:an )?(?:API Request|AI Response):?\s*$")
_TOOL = re.compile(
    r"^\d+\. (?:Name: (?P<name>[^\n]+)\nDescription: (?P<text>[^\n]*)|(?P<short>[^\n:]+): "
    r"(?P<about>[^\n]*))\nParameters: (?P<parameters>\{[^\n]*\})$",
    re.MULTILINE,
)
_NUMBERED = re.compile(r"^\d+\. [^\n]*\n(?:Description: [^\n]*\n)?Parameters: ", re.MULTILINE)


def is_apibank(row: JsonObject) -> bool:
    """Whether the row is one of either form."""
    if {"system", "user", "answer"} <= row.keys():
        return True
    instruction = row.get("instruction")
    return isinstance(instruction, str) and _DESCRIPTIONS in instruction and "input" in row


def apibank_task(row: JsonObject) -> TaskCreate:
    """One row as a task.

    Raises:
        RowRefused: with a pointer into the row.
    """
    line = _published(row) if "instruction" in row else _processed(row)
    kept = own_fields(row, derived=("source", "metadata", *GOLD))
    line |= {"split": "held_out", **kept, "source": SOURCE}
    return jsonl_task(line, must_offer=False)


def _processed(row: JsonObject) -> JsonObject:
    system, user = _text(row, "system"), _text(row, "user")
    answer = row.get("answer")
    calls = answer if isinstance(answer, list) else [answer]
    tools, note = _numbered_tools(system)
    return {
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
        ],
        "tools": tools,
        "calls": [call_of(call, f"/answer/{number}") for number, call in enumerate(calls)],
        "metadata": {**_marks(row.get("other")), "tools_in_prompt": True, **note},
    }


def _published(row: JsonObject) -> JsonObject:
    instruction, dialogue = _text(row, "instruction"), _text(row, "input")
    key = "expected_output" if "expected_output" in row else "output"
    expected = _text(row, key).strip()
    tools = _described_tools(instruction.partition(_DESCRIPTIONS)[2])
    messages: list[JsonValue] = [{"role": "user", "content": _ASKED.sub("", dialogue.rstrip())}]
    if dated := date_said(instruction.partition(_DESCRIPTIONS)[0]):
        messages.insert(0, {"role": "system", "content": dated})
    line: JsonObject = {"messages": messages, "tools": tools, "metadata": _marks(row)}
    if not expected.startswith(REQUEST):
        return {**line, "response": True}
    names = [str(tool["name"]) for tool in tools if isinstance(tool, dict)]
    try:
        calls = bracketed_calls(expected.removeprefix(REQUEST), names)
    except RowRefused as refused:
        raise RowRefused(f"/{key}", refused.detail) from refused
    return {**line, "calls": list[JsonValue](calls)}


def _described_tools(text: str) -> list[JsonValue]:
    tools: list[JsonValue] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            item = parse_json(line)
        except RowRefused as refused:
            raise RowRefused("/instruction", f"an API's description: {refused.detail}") from refused
        tools.append(tool_of(item, "/instruction", parameters="input_parameters"))
    return tools


def _numbered_tools(system: str) -> tuple[list[JsonValue], JsonObject]:
    """The numbered tools, whose parameters are Python's literals; none if one cannot be read."""
    found = list(_TOOL.finditer(system))
    if len(found) != len(_NUMBERED.findall(system)):
        return [], {"tools_note": "tools not parsed: not numbered as ToolRL writes API-Bank's"}
    tools: list[JsonValue] = []
    try:
        for one in found:
            item: JsonObject = {
                "name": (one["name"] or one["short"]).strip(),
                "description": one["text"] or one["about"] or "",
                "parameters": python_value(one["parameters"], "parameters"),
            }
            tools.append(tool_of(item, "/system"))
    except RowRefused as refused:
        return [], {"tools_note": f"tools not parsed: {refused.detail}"}
    return tools, {}


def _marks(other: JsonValue) -> JsonObject:
    kept = other if isinstance(other, dict) else {}
    named = ("file", "id", "sample_id", "api_id")
    return {"evaluation_set": "api_bank", **{key: kept[key] for key in named if key in kept}}


def _text(row: JsonObject, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RowRefused(f"/{key}", f"expected text, found {kind_of(value)}")
    return value
