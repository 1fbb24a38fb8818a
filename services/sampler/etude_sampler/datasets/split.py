"""The held-out split: a function of the dialogue alone, so that a re-import moves nothing.

Every converter assigns it through `finishing`. The rule is our choice. It hashes the messages and
not the whole task: BFCL asks some questions several times with other tools on offer, and the same
question on both sides would make the held-out part look better than it is.
"""

from __future__ import annotations

import hashlib
import json

from etude_proto.v1 import Split, TaskCreate

DEFAULT_HELD_OUT_SHARE = 0.2
"""Share of the dialogues that no run draws."""

_SALT = "etude/held-out/1:"
"""Changing it moves tasks between the parts of data sets that are already imported."""


def split_of(task: TaskCreate, held_out_share: float) -> Split:
    """Held out iff the salted hash of the messages, as a fraction of 1, is below the share.

    Raising the share only moves tasks from train to held-out, never back.
    """
    messages = [message.model_dump(mode="json", exclude_none=True) for message in task.messages]
    content = json.dumps(messages, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256((_SALT + content).encode()).digest()
    fraction = int.from_bytes(digest[:8]) / 2**64
    return Split.HELD_OUT if fraction < held_out_share else Split.TRAIN
