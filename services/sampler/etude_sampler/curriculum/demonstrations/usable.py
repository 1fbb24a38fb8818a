"""What may become a demonstration, and of which kind its gold is (algorithms.md 4.2).

Neighbours: the service makes entries of reports and of tasks' aids, `choosing` picks among them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_CALL_TAGS = ("<tool_call>", "</tool_call>")


class GoldKind(StrEnum):
    """What a right answer has."""

    ONE = "one"
    """One call."""
    SEVERAL = "several"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Entry:
    """A right answer to a task, as the pool keeps it."""

    ordinal: int
    """Of its task."""
    prompt: str
    """All that makes the task's prompt the same as another's."""
    words: tuple[str, ...]
    """Tokens of the request and of the tools' names and descriptions."""
    kind: GoldKind
    answer: str
    imported: bool = False


def gold_kind(num_calls: int) -> GoldKind:
    """The kind of a gold with so many calls."""
    return (GoldKind.NONE, GoldKind.ONE)[num_calls] if num_calls < 2 else GoldKind.SEVERAL


def thought_of(answer: str) -> str | None:
    """The text of the first thought; None without one."""
    found = _THOUGHT.search(answer)
    return None if found is None else found.group(1)


def is_usable(answer: str) -> bool:
    """Whether an answer has a thought, and none that names a call tag."""
    thought = thought_of(answer)
    return thought is not None and not any(tag in thought for tag in _CALL_TAGS)
