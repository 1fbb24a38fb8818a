"""OpenAI's training dialogues as tasks: messages that end with what the assistant should do.

`tool_calls` of the turn that the policy takes over (`turns`) become gold; the turns before it are
the prompt. Rows whose messages stop before the policy's turn are `jsonl`'s.
"""

from __future__ import annotations

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .function_lists import list_in, tools_in
from .jsonl import jsonl_task
from .own_fields import has_gold
from .stream import JsonObject, RowRefused
from .strict_json import kind_of
from .turns import Turn, cut

_ROLES = {"developer": "system", "function": "tool"}
_KEPT = ("subtasks", "source", "split", "metadata", "aids")


def is_whole_dialogue(messages: JsonValue) -> bool:
    """Whether the assistant has spoken where a task would have the policy speak."""
    if not isinstance(messages, list) or not messages:
        return False
    if any(
        isinstance(turn, dict) and (turn.get("tool_calls") or turn.get("function_call"))
        for turn in messages
    ):
        return True
    last = messages[-1]
    return isinstance(last, dict) and last.get("role") == "assistant"


def chat_task(row: JsonObject, *, held_out_share: float = DEFAULT_HELD_OUT_SHARE) -> TaskCreate:
    """One row as a task; columns beside messages, tools and a task's own fields are left out.

    Raises:
        RowRefused: with a pointer into the row.
    """
    if has_gold(row):
        raise RowRefused(
            "",
            "gold stands beside the dialogue: a row of shape `task`, whose messages end before it",
        )
    line = cut(_turns(list_in(row, "messages")), "/messages")
    line["tools"] = tools_in(row)
    line |= {key: row[key] for key in _KEPT if key in row}
    try:
        return jsonl_task(line, held_out_share=held_out_share)
    except RowRefused as refused:
        pointer = "/messages" if refused.pointer.startswith("/calls") else refused.pointer
        raise RowRefused(pointer, refused.detail) from refused


def text_of(content: JsonValue, where: str) -> str:
    """A content as text: itself, or its parts of type `text`, joined.

    Raises:
        RowRefused: it has other parts.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise RowRefused(where, f"contents are text, found {kind_of(part)} that is none")
        texts.append(text)
    return "\n".join(texts)


def _turns(messages: list[JsonValue]) -> list[Turn]:
    turns = []
    for number, message in enumerate(messages):
        where = f"/messages/{number}"
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(role, str):
            raise RowRefused(where, "expected an object with role and content")
        calls = _calls(message, where)
        content = "" if calls else text_of(message.get("content"), f"{where}/content")
        turns.append(Turn(_ROLES.get(role, role), content, calls))
        if calls:
            break
    return turns


def _calls(message: JsonObject, where: str) -> tuple[JsonObject, ...]:
    """The calls of a turn; OpenAI's older `function_call` is one."""
    called = message.get("tool_calls") or []
    if not isinstance(called, list):
        raise RowRefused(f"{where}/tool_calls", f"expected an array: {kind_of(called)}")
    if not called and message.get("function_call"):
        return (_call(message["function_call"], f"{where}/function_call"),)
    return tuple(_call(item, f"{where}/tool_calls/{n}") for n, item in enumerate(called))


def _call(item: JsonValue, where: str) -> JsonObject:
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowRefused(where, "expected a call with a function's name")
    arguments = function.get("arguments")
    return {"name": function["name"], "arguments": {} if arguments is None else arguments}
