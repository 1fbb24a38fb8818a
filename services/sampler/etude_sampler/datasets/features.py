"""Features of tasks: cheap numbers that a curriculum may predict success from.

Computed once at import and stored beside the task; for tasks of imports before there were any,
when they are asked for. Their names and order: `curriculum.features`. Pure.
"""

from __future__ import annotations

import json
import math
import struct

from etude_proto.rows.subtasks import gold_counts
from etude_proto.v1 import Reference, Task, TaskCreate, ToolRLReference
from etude_sampler.curriculum.features import FEATURES, MAX_GIVEN

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


def task_features(task: TaskCreate | Task) -> list[float]:
    """log1p of the task's counts in the order of `FEATURES`, then what its user gave.

    Gold that cannot be read counts as no call.
    """
    num_calls, num_parameters = _gold_counts(task.reference)
    counts = {
        "num_tools": len(task.tools),
        "num_calls": num_calls,
        "num_parameters": num_parameters,
        "prompt_characters": sum(len(message.content) for message in task.messages),
        "num_turns": len(task.messages),
        "num_subtasks": len(task.subtasks),
    }
    return [*(math.log1p(counts[name]) for name in FEATURES), *_given(task.metadata)]


def _gold_counts(reference: Reference | None) -> tuple[int, int]:
    """Gold calls and parameters; ToolRL's text is only skimmed, for imports are long."""
    if not isinstance(reference, ToolRLReference):
        return gold_counts(reference)
    body = reference.text.rpartition("</think>")[2].partition(_OPEN)[2].partition(_CLOSE)[0]
    try:
        calls = [json.loads(line) for line in body.splitlines() if line.strip()]
        return len(calls), sum(len(call["parameters"]) for call in calls)
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0, 0


def _given(metadata: object) -> list[float]:
    """`metadata.features`: up to 64 finite numbers; anything else counts as none."""
    given = metadata.get("features") if isinstance(metadata, dict) else None
    if not isinstance(given, list) or len(given) > MAX_GIVEN:
        return []
    numbers = [x for x in given if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(numbers) < len(given) or not all(abs(x) <= 1e9 for x in numbers):
        return []
    return [float(x) for x in numbers]


def encode_features(task: TaskCreate | Task) -> bytes:
    """The features as little-endian doubles."""
    values = task_features(task)
    return struct.pack(f"<{len(values)}d", *values)


def features_of_body(body: bytes) -> bytes:
    """The same for a stored task."""
    return encode_features(Task.model_validate_json(body))
