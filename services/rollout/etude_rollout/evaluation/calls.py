"""Tool calls in an answer, as ToolRL's evaluation reads them (algorithms.md 9.1).

Looser than the rewards' reading: no thought and no closing tag are needed, and a line that does not
parse is skipped. Used by both benchmarks. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pydantic import JsonValue

CALL_OPEN = "<tool_call>"
_LINE_ENDS = re.compile(r"\n|</tool_call>")


def objects_in(text: str) -> list[dict[str, JsonValue]]:
    """JSON objects on the lines after the last `<tool_call>`; none without the tag.

    Lines that hold anything else are skipped. A closing tag ends a line, so that a call between
    tags on one line counts (our reading; the rule does not say).
    """
    _, tag, block = text.rpartition(CALL_OPEN)
    found: list[dict[str, JsonValue]] = []
    for line in _LINE_ENDS.split(block) if tag else ():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def answer_text(calls: Sequence[tuple[str, JsonValue]], *, thought: str = "As asked.") -> str:
    """An answer that calls tools: names and parameters in ToolRL's output format."""
    lines = [json.dumps({"name": name, "parameters": given}) for name, given in calls]
    return "\n".join([f"<think> {thought} </think>", CALL_OPEN, *lines, "</tool_call>"])


def answer_without_calls(words: str) -> str:
    """An answer in words, in ToolRL's output format."""
    return f"<think> No tool fits. </think>\n<response> {words} </response>"
