"""ToolRL's row format (`rlla`), from JSON lines or Parquet, as tasks.

The prompt stays exactly as given: its system text carries the tool list, numbered. The same list
is also parsed into `tools`, for whoever needs schemas, and the metadata says that the prompt
already shows it. Gold stays text (algorithms.md 2.5, traps 1 and 4). Row format: the rows of
`data/rlla_*.jsonl`.
"""

from __future__ import annotations

import json
import re

from pydantic import JsonValue, ValidationError

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import Split, TaskCreate, Tool
from .argument_types import object_schema, to_json_schema
from .finishing import finished
from .function_lists import object_in
from .own_fields import GOLD, HELD_OUT, own_fields
from .stream import JsonObject, RowRefused, checked
from .strict_json import kind_of

_FIRST_TOOL = re.compile(r"^1\. Name: ", re.MULTILINE)
_TOOL = re.compile(
    r"(?P<number>\d+)\. Name: (?P<name>[^\n]+)\n"
    r"Description: (?P<description>.*?)\nParameters: (?=\{)",
    re.DOTALL,
)

_MOVED = {
    "/messages": "/prompt",
    "/reference/text": "/reward_model/ground_truth",
    "/source": "/data_source",
}


class ToolsUnreadable(ValueError):
    """The numbered tool list of a system text has a form that is not known."""


def rlla_task(row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE) -> TaskCreate:
    """One row as a task. Rows that say they belong to a test split are held out whatever the share.

    Raises:
        RowRefused: with a pointer into the row.
    """
    messages = _messages(row.get("prompt"))
    extra = object_in(row, "extra_info")
    info = extra if isinstance(extra, dict) else {}
    split_name, index = info.get("split"), info.get("index")
    tools, metadata = _tools(messages)
    if isinstance(split_name, str):
        metadata["split"] = split_name
    if isinstance(index, int):
        metadata["index"] = index
    kept = own_fields(row, derived=("source", "metadata", *GOLD))
    task = checked(
        TaskCreate,
        {
            **kept,
            "messages": messages,
            "tools": [tool.model_dump(mode="json") for tool in tools],
            "reference": {"kind": "toolrl", "text": _ground_truth(object_in(row, "reward_model"))},
            "source": f"rlla/{_source(row.get('data_source'), split_name)}",
            "metadata": metadata,
        },
        _MOVED,
    )
    is_test = isinstance(split_name, str) and split_name.lower() in HELD_OUT
    split = task.split if "split" in kept else Split.HELD_OUT if is_test else None
    return finished(task, held_out_share, split=split, moved=_MOVED)


def parse_tools(system_text: str) -> list[Tool]:
    """The numbered tools of a system text, with their parameters as JSON Schema; [] without any.

    Raises:
        ToolsUnreadable: a list begins and does not go on as ToolRL writes it.
    """
    first = _FIRST_TOOL.search(system_text)
    if first is None:
        return []
    tools: list[Tool] = []
    position = first.start()
    while (found := _TOOL.match(system_text, position)) is not None:
        if int(found["number"]) != len(tools) + 1:
            raise ToolsUnreadable(f"tool {len(tools) + 1} has the number {found['number']}")
        try:
            parameters, end = json.JSONDecoder().raw_decode(system_text, found.end())
            tool = Tool(
                name=found["name"],
                description=found["description"],
                parameters=_schema(parameters),
            )
        except (ValueError, RecursionError) as error:
            reason = "is no tool" if isinstance(error, ValidationError) else str(error)
            raise ToolsUnreadable(f"tool {len(tools) + 1}: {reason}") from error
        tools.append(tool)
        position = end + 1
    if re.compile(r"\d+\. Name: ").match(system_text, position) or not tools:
        raise ToolsUnreadable(f"tool {len(tools) + 1}: no name, description and parameters")
    return tools


def _schema(parameters: JsonObject) -> JsonObject:
    """ToolRL writes the arguments' map; a whole object schema is taken as one."""
    is_schema = isinstance(parameters.get("type"), str) and "properties" in parameters
    return to_json_schema(parameters) if is_schema else object_schema(parameters)


def _tools(messages: list[JsonObject]) -> tuple[list[Tool], JsonObject]:
    """The tools in the system texts, and metadata that says what became of them."""
    system = "\n".join(
        content
        for message in messages
        if message.get("role") == "system" and isinstance(content := message.get("content"), str)
    )
    try:
        tools = parse_tools(system)
    except ToolsUnreadable as error:
        return [], {"tools_in_prompt": True, "tools_note": f"tools not parsed: {error}"}
    if not tools:
        return [], {"tools_in_prompt": False, "tools_note": "no numbered tools in the system text"}
    return tools, {"tools_in_prompt": True}


def _messages(prompt: JsonValue) -> list[JsonObject]:
    """The prompt's messages; fields that hold null are dropped, as a table fills them in."""
    if not isinstance(prompt, list):
        raise RowRefused("/prompt", f"expected an array of messages, found {kind_of(prompt)}")
    messages: list[JsonObject] = []
    for index, message in enumerate(prompt):
        if not isinstance(message, dict):
            raise RowRefused(f"/prompt/{index}", f"expected an object, found {kind_of(message)}")
        messages.append({key: value for key, value in message.items() if value is not None})
    return messages


def _ground_truth(reward_model: JsonValue) -> JsonValue:
    gold = reward_model.get("ground_truth") if isinstance(reward_model, dict) else None
    if not isinstance(gold, str):
        raise RowRefused(
            "/reward_model/ground_truth",
            f"expected text in ToolRL's output format, found {kind_of(gold)}",
        )
    return gold


def _source(data_source: JsonValue, split_name: JsonValue) -> str:
    """The original data set; every published row says `rlla`, and then the split says more."""
    if isinstance(data_source, str) and data_source not in {"", "rlla"}:
        return data_source
    return split_name if isinstance(split_name, str) and split_name else "default"
