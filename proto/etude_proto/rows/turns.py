"""Whole dialogues as a prompt and what comes next: where the policy takes over.

A task is one turn (our choice): the first in which the assistant calls tools, or, in a dialogue
without calls, the assistant's last. Turns before it are plain text, so that no prompt holds a call
in a format of its own. Used by `toolace` and `chat`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from .stream import JsonObject, RowRefused


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a dialogue."""

    role: str
    content: str
    calls: tuple[JsonObject, ...] = ()
    """What the assistant calls in it."""


def cut(turns: list[Turn], where: str) -> JsonObject:
    """`messages` before the policy's turn, and its gold: `calls`, or `response`.

    Raises:
        RowRefused: nobody speaks before the assistant does, it never does, or the user ends it.
    """
    speaking = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
    if not speaking:
        raise RowRefused(where, "the assistant never speaks: nothing to score")
    calling = [index for index in speaking if turns[index].calls]
    at = calling[0] if calling else speaking[-1]
    if not calling and turns[-1].role == "user":
        raise RowRefused(where, "the dialogue ends with the user: no turn to score")
    if not any(turn.role == "user" for turn in turns[:at]):
        raise RowRefused(where, "no user's turn before the assistant's")
    messages: list[JsonValue] = [
        {"role": turn.role, "content": turn.content} for turn in turns[:at]
    ]
    calls = turns[at].calls
    gold: JsonObject = {"calls": list[JsonValue](calls)} if calls else {"response": True}
    return {"messages": messages, **gold}
