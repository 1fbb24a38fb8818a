"""Worked examples of the output format, shown as earlier turns when few-shot prompting is on.

Written for this project; none comes from a data set. Each brings its own tool, which is shown
beside its request, so that it is not mistaken for the task's. The order is fixed: one shot shows a
call, two shots add parallel calls, three a request that no tool fits. Used by `prompting.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from etude_proto.v1 import Tool


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One request with its tool and its answer."""

    tool: Tool
    request: str
    answer: str


def _tool(name: str, description: str, **types: str) -> Tool:
    properties: dict[str, JsonValue] = {key: {"type": kind} for key, kind in types.items()}
    required: list[JsonValue] = [*types]
    return Tool(
        name=name,
        description=description,
        parameters={"type": "object", "properties": properties, "required": required},
    )


DEMONSTRATIONS = (
    Demonstration(
        _tool(
            "convert_length",
            "Convert a length to another unit.",
            value="number",
            from_unit="string",
            to_unit="string",
        ),
        "how many feet are 12.5 metres?",
        "<think> The tool convert_length fits: 12.5 is the value, metres to feet. </think>\n"
        "<tool_call>\n"
        '{"name": "convert_length", "parameters": '
        '{"value": 12.5, "from_unit": "metre", "to_unit": "foot"}}\n'
        "</tool_call>",
    ),
    Demonstration(
        _tool("book_room", "Book a room in a hotel.", hotel="string", nights="integer"),
        "two nights at the Alder and one at the Birch.",
        "<think> Two bookings are asked for, so book_room is called twice. </think>\n"
        "<tool_call>\n"
        '{"name": "book_room", "parameters": {"hotel": "Alder", "nights": 2}}\n'
        '{"name": "book_room", "parameters": {"hotel": "Birch", "nights": 1}}\n'
        "</tool_call>",
    ),
    Demonstration(
        _tool("play_song", "Play a song.", title="string"),
        "what does a lighthouse do?",
        "<think> No tool fits this question, so I answer it. </think>\n"
        "<response> It guides ships with a strong light. </response>",
    ),
)
