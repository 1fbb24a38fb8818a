"""The last step of every converter: check the gold, find the sub-tasks, assign the split."""

from __future__ import annotations

from collections.abc import Mapping

from ..split import held_out_fraction
from ..v1 import BFCLReference, Split, TaskCreate
from .stream import RowRefused, pointer_to
from .subtasks import subtasks_of


def finished(
    task: TaskCreate,
    held_out_share: float,
    *,
    split: Split | None = None,
    moved: Mapping[str, str] | None = None,
) -> TaskCreate:
    """The task with its sub-tasks, unless it names them itself, and with its split.

    `split` is what the row itself says, if it does; `moved` is as in `rows.checked`.

    Raises:
        RowRefused: gold that cannot be scored, or sub-tasks named twice.
    """
    subtasks = task.subtasks
    if len(set(subtasks)) < len(subtasks):
        raise RowRefused("/subtasks", "a sub-task is named twice")
    derived = _derived_subtasks(task, moved or {})
    return task.model_copy(
        update={
            "subtasks": subtasks or derived,
            "split": split or split_of(task, held_out_share),
        }
    )


def split_of(task: TaskCreate, held_out_share: float) -> Split:
    """Held out iff the hash of the messages, as a fraction of 1, is below the share."""
    is_held_out = held_out_fraction(task.messages) < held_out_share
    return Split.HELD_OUT if is_held_out else Split.TRAIN


def _derived_subtasks(task: TaskCreate, moved: Mapping[str, str]) -> list[str]:
    reference = task.reference
    if isinstance(reference, BFCLReference):
        for index, call in enumerate(reference.calls):
            if len(call) != 1:
                place = moved.get("/reference/calls", "/reference/calls") + pointer_to(index)
                raise RowRefused(place, "a gold call needs exactly one function name")
    try:
        return subtasks_of(reference)
    except RowRefused as refused:
        place = moved.get("/reference/text", "/reference/text")
        raise RowRefused(place, refused.detail) from refused
