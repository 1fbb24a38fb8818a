"""Rows of every known shape, written by us in the published format.

`TRIED` says by shape what its rows are; shapes whose real rows lie in the shared data or in an
installed package are tried on those too.
"""

from __future__ import annotations

import json

from etude_proto.rows.shapes import Shape
from etude_proto.rows.stream import JsonObject

SEARCH: JsonObject = {
    "name": "Flight Search (v2)",
    "description": "Finds flights.",
    "parameters": {
        "type": "dict",
        "properties": {
            "from": {"type": "string", "description": "Where to start."},
            "stops": {"type": "int", "description": "At most."},
            "tags": {"type": "List[str]", "description": "Any."},
        },
        "required": ["from"],
    },
    "required": None,
}
CLOCK: JsonObject = {"name": "clock", "description": "The time.", "parameters": {}}

TOOLACE_SYSTEM = (
    "You compose functions, with brackets [like this]. These can be called:\n"
    f"{json.dumps([SEARCH, CLOCK])}. \nToday is 2024-05-01, Wednesday. Answer with "
    "[func1(name=value)] only.\n"
)
TOOLACE: JsonObject = {
    "system": TOOLACE_SYSTEM,
    "conversations": [
        {"from": "user", "value": "I want to fly."},
        {"from": "assistant", "value": "From where?"},
        {"from": "user", "value": "Oslo, and what time is it?"},
        {
            "from": "assistant",
            "value": '[Flight Search (v2)(from="Oslo, (NO)", stops=1, tags=["a]", "b"]), clock()]',
        },
        {"from": "tool", "value": "[]"},
        {"from": "assistant", "value": "No flights."},
    ],
}
XLAM: JsonObject = {
    "id": 3,
    "query": "Fly from Oslo.",
    "tools": json.dumps(
        [{"name": "fly", "description": "", "parameters": {"to": {"type": "str", "default": ""}}}]
    ),
    "answers": json.dumps([{"name": "fly", "arguments": {"to": "Oslo"}}]),
}
PROCESSED: JsonObject = {
    "system": "Tools:\n1. Name: Tell\nDescription: Tells.\nParameters: "
    "{'what': {'type': 'str', 'description': \"It's told.\"}}\n2. Ask: Asks, short.\n"
    "Parameters: {}\n\nCall them.",
    "user": "<user>Tell it.</user>",
    "answer": {"name": "Tell", "parameters": {"what": "it"}},
    "other": {"file": "a.jsonl", "id": 4},
}
PUBLISHED: JsonObject = {
    "file": "Tell-level-1-1.jsonl",
    "id": 0,
    "instruction": "\nGenerate an API request in the format of [ApiName(key1='value1')].\n"
    "The current year is 2023.\nInput: \nUser: words\n\nAPI descriptions:\n"
    '{"name": "Tell", "description": "Tells.", "input_parameters": {"what": {"type": "str", '
    '"description": "It."}}, "output_parameters": {"done": {"type": "str", "description": ""}}}',
    "input": "User: Tell it.\nAI: Gladly.\nGenerate API Request:\n",
    "expected_output": "API-Request: [Tell(what='it\\'s')]",
}
CHAT: JsonObject = {
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "Be short."}]},
        {"role": "user", "content": "Time?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "clock", "arguments": '{"zone": "UTC"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
        {"role": "assistant", "content": "Noon."},
    ],
    "tools": [{"type": "function", "function": {"name": "clock", "parameters": {}}}],
    "parallel_tool_calls": False,
}
GOLD = '<think> t </think>\n<tool_call>\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>'

ROWS: dict[Shape, JsonObject] = {
    Shape.TASK: {"messages": [{"role": "user", "content": "Hi"}], "subtasks": ["polite"]},
    Shape.OPENAI: {"messages": [{"role": "user", "content": "Hi"}], "response": True},
    Shape.CHAT: CHAT,
    Shape.TRL: {"prompt": [{"role": "user", "content": "2 + 2?"}], "solution": "4", "image": None},
    Shape.VERL: {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"split": "test", "index": 7},
    },
    Shape.RLLA: {
        "data_source": "rlla",
        "prompt": [{"role": "user", "content": "Call f."}],
        "reward_model": {"style": "rule", "ground_truth": GOLD},
        "extra_info": {"split": "train", "index": 0},
    },
    Shape.XLAM: XLAM,
    Shape.TOOLACE: TOOLACE,
    Shape.APIBANK: PUBLISHED,
    Shape.BFCL: {
        "id": "simple_python_0",
        "question": [[{"role": "user", "content": "Add."}]],
        "function": [
            {
                "name": "add",
                "description": "",
                "parameters": {"type": "dict", "properties": {"a": {"type": "float"}}},
            }
        ],
        "ground_truth": [{"add": {"a": [1]}}],
    },
}
"""One row a shape; `hammer` is xLAM's and never recognised."""
