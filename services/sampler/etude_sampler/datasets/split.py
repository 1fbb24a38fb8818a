"""The side of the held-out split that a task is on; the rule is `etude_proto.split`.

Every converter assigns it through `finishing`.
"""

from __future__ import annotations

from etude_proto.split import DEFAULT_HELD_OUT_SHARE, held_out_fraction
from etude_proto.v1 import Split, TaskCreate

__all__ = ["DEFAULT_HELD_OUT_SHARE", "split_of"]


def split_of(task: TaskCreate, held_out_share: float) -> Split:
    """Held out iff the hash of the messages, as a fraction of 1, is below the share."""
    is_held_out = held_out_fraction(task.messages) < held_out_share
    return Split.HELD_OUT if is_held_out else Split.TRAIN
