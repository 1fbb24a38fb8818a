"""The held-out split: a function of the dialogue alone, so that a re-import moves nothing.

The rule is our choice. It hashes the messages and not the whole task: BFCL asks some questions
several times with other tools on offer, and the same question on both sides would make the held-out
part look better than it is. Importers assign the split by it, the evaluation tells by it which rows
a run may have trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from .v1 import Message

DEFAULT_HELD_OUT_SHARE = 0.2
"""Share of the dialogues that no run draws."""

_SALT = "etude/held-out/1:"
"""Changing it moves tasks between the parts of data sets that are already imported."""


def held_out_fraction(messages: Sequence[Message]) -> float:
    """Where a dialogue falls, in [0, 1): it is held out iff this is below the share.

    Raising the share only moves tasks from train to held-out, never back.
    """
    plain = [message.model_dump(mode="json", exclude_none=True) for message in messages]
    content = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256((_SALT + content).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
