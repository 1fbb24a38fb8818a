"""Where a verified solution may be cut (section 6). Used by `prefix`.

Text is cut by characters, never inside a tag or a JSON value, and never after the beginning of a
call block: that would give the answer away. Traces are cut between whole turns of the assistant.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

from etude_proto.v1 import Message

_TAG = re.compile(r"</?(?:think|tool_call|response)>")
_CALLS = "<tool_call>"
_DECODER = json.JSONDecoder()


def cut_of_text(text: str, share: float) -> int:
    """Characters of `text` to show: its share, rounded, moved back to where a cut is allowed."""
    cut = round(share * len(text))
    block = text.find(_CALLS)
    if 0 <= block < cut:
        cut = block
    spans = [*(match.span() for match in _TAG.finditer(text)), *_json_spans(text)]
    for begin, end in spans:
        if begin < cut < end:
            cut = begin
    return cut


def _json_spans(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of every outermost JSON object or list."""
    at = 0
    while (found := re.compile(r"[{\[]").search(text, at)) is not None:
        begin = found.start()
        try:
            _, at = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            at = begin + 1
        else:
            yield begin, at


def turns_shown(num_turns: int, share: float) -> int:
    """Whole turns of T to show: `min(T - 1, ceil(share T))`; 0 of a single one."""
    return min(num_turns - 1, math.ceil(share * num_turns - 1e-9))


def cut_of_turns(turns: Sequence[Message], share: float) -> list[Message]:
    """The leading turns to show: an assistant's turn with everything up to the next one."""
    begins = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    shown = turns_shown(len(begins), share) if begins else 0
    return [] if shown <= 0 else list(turns[: begins[shown]])
