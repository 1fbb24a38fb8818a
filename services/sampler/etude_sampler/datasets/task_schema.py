"""JSON Schema of one line of `etude import jsonl`, generated from the models.

`python -m etude_sampler.datasets.task_schema > docs/reference/task.schema.json` rewrites the
committed document; a test compares the two.
"""

from __future__ import annotations

import json

from pydantic import JsonValue, TypeAdapter

from etude_proto.rows.openai_shape import OpenAILine
from etude_proto.v1 import TaskCreate

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def line_schema() -> dict[str, JsonValue]:
    """The schema: a line has the contract's shape or the OpenAI-like one."""
    lines: TypeAdapter[TaskCreate | OpenAILine] = TypeAdapter(TaskCreate | OpenAILine)
    return {
        "$schema": DIALECT,
        "title": "Etude task",
        "description": "One line of a file for `etude import jsonl`.",
        **lines.json_schema(),
    }


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(line_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
