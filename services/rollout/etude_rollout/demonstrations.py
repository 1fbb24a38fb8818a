"""Worked examples of the output format, shown as earlier turns when few-shot prompting is on.

Written for this project; none comes from a data set. Their tools are named in their own requests,
so that they are not mistaken for the task's. The order is fixed: one shot shows a call, two shots
add parallel calls, three a request that no tool fits. Used by `prompting.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One request with its answer."""

    request: str
    answer: str


DEMONSTRATIONS = (
    Demonstration(
        "With the tool convert_length(value, from_unit, to_unit): how many feet are 12.5 metres?",
        "<think> The tool convert_length fits: 12.5 is the value, metres to feet. </think>\n"
        "<tool_call>\n"
        '{"name": "convert_length", "parameters": '
        '{"value": 12.5, "from_unit": "metre", "to_unit": "foot"}}\n'
        "</tool_call>",
    ),
    Demonstration(
        "With the tool book_room(hotel, nights): two nights at the Alder and one at the Birch.",
        "<think> Two bookings are asked for, so book_room is called twice. </think>\n"
        "<tool_call>\n"
        '{"name": "book_room", "parameters": {"hotel": "Alder", "nights": 2}}\n'
        '{"name": "book_room", "parameters": {"hotel": "Birch", "nights": 1}}\n'
        "</tool_call>",
    ),
    Demonstration(
        "With the tool play_song(title): what does a lighthouse do?",
        "<think> No tool fits this question, so I answer it. </think>\n"
        "<response> It guides ships with a strong light. </response>",
    ),
)
