"""Rows of a framework's data set as tasks, in the order of the rows.

Prompts may be texts or dialogues, as TRL and verl have them. `trl.py` and the other adapters use
it; the sampler's own importers are `etude import`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from etude_proto.v1 import Message, TaskCreate


class ColumnFault(ValueError):
    """A column is missing, or a row of it cannot be read; both are named."""


def tasks_of(
    table: Sequence[Mapping[str, object]],
    *,
    prompt: str = "prompt",
    subtasks: Sequence[str] = (),
    source: str | None = None,
) -> list[TaskCreate]:
    """One task a row.

    Args:
        table: the rows; a data set of Hugging Face's is one.
        prompt: column of texts, or of dialogues (lists of role and content).
        subtasks: reward components, the same for all rows.
        source: column that says where a row came from.

    Raises:
        ColumnFault: see there.
    """
    tasks = []
    for index in range(len(table)):
        row = table[index]
        missing = [name for name in (prompt, source) if name is not None and name not in row]
        if missing:
            raise ColumnFault(
                f"row {index} has no column {missing[0]!r}; it has {', '.join(sorted(row))}"
            )
        fields: dict[str, object] = {
            "messages": messages_of(row[prompt], where=f"row {index}, column {prompt!r}"),
            "subtasks": list(subtasks),
        }
        if source is not None:
            fields["source"] = str(row[source])
        try:
            tasks.append(TaskCreate.model_validate(fields))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ColumnFault(f"row {index}: {field}: {first['msg']}") from error
    return tasks


def messages_of(prompt: object, *, where: str) -> list[Message]:
    """A prompt as a dialogue; parts that are no text are kept as JSON.

    Raises:
        ColumnFault: it is neither text nor dialogue.
    """
    if isinstance(prompt, str):
        return [Message(role="user", content=prompt)]
    if not isinstance(prompt, Iterable):
        raise ColumnFault(f"{where}: a prompt is a text or a list of messages, not {prompt!r}")
    messages = []
    for turn in prompt:
        if not isinstance(turn, Mapping) or not {"role", "content"} <= set(turn):
            raise ColumnFault(f"{where}: a message has role and content, not {turn!r}")
        content = turn["content"]
        text = content if isinstance(content, str) else json.dumps(content, default=str)
        try:
            messages.append(Message.model_validate({"role": turn["role"], "content": text}))
        except ValidationError as error:
            raise ColumnFault(f"{where}: {error.errors()[0]['msg']}") from error
    return messages
