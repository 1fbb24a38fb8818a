"""Tools as text: numbered as ToolRL shows them, or one line each.

Used by `prompting.py`, and wherever tools are shown beside a prompt: demonstrations, and tools
that an episode's environment offers later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import JsonValue

from etude_proto.v1 import Tool


def tools_text(tools: Sequence[Tool]) -> str:
    """The tools numbered as ToolRL numbers them: name, description, parameters as JSON.

    Parameters of an object schema are shown by their properties, with `required` beside them.
    """
    blocks = ["You can use these tools:"]
    for number, tool in enumerate(tools, start=1):
        lines = [f"{number}. Name: {tool.name}"]
        if tool.description:
            lines.append(f"Description: {tool.description}")
        shown = tool.parameters.get("properties", tool.parameters)
        lines.append(f"Parameters: {json.dumps(shown, ensure_ascii=False)}")
        required = tool.parameters.get("required")
        if isinstance(required, list) and isinstance(shown, dict) and len(required) < len(shown):
            lines.append(f"Required: {json.dumps(required, ensure_ascii=False)}")
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def signatures_text(tools: Sequence[Tool]) -> str:
    """The tools one line each: `- name(parameter: type, optional: type?): description`."""
    lines = ["Tools:"]
    for tool in tools:
        properties = tool.parameters.get("properties", {})
        required = tool.parameters.get("required", [])
        names = required if isinstance(required, list) else []
        shown = [
            f"{name}: {_type_of(schema)}{'' if name in names else '?'}"
            for name, schema in (properties.items() if isinstance(properties, dict) else ())
        ]
        about = f": {tool.description}" if tool.description else ""
        lines.append(f"- {tool.name}({', '.join(shown)}){about}")
    return "\n".join(lines)


def _type_of(schema: JsonValue) -> str:
    kind = schema.get("type", "any") if isinstance(schema, dict) else "any"
    return kind if isinstance(kind, str) else json.dumps(kind)
