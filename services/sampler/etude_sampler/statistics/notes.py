"""Notes: what a curriculum's parts remember of each task beyond the shared statistics.

A part names its notes; a run's layout is their ordered union, kept as the columns `x_NE` of
`task.TaskStatistics`. Neighbours: `task.fold` folds them with the group, `curriculum` lays them
out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .arrays import Floats, Ints
from .group import GroupSummary

if TYPE_CHECKING:
    from .task import TaskStatistics


class NoteFold(Protocol):
    """One group folded into a note; pure, and no row depends on another."""

    def __call__(
        self, x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints
    ) -> Floats:
        """The note after the groups.

        Args:
            x_NW: [N, W] the note before.
            before: statistics of the N tasks before the groups.
            summary: the groups, each with at least two valid rollouts.
            version_N: policy version at which each group is applied.
        """


@dataclass(frozen=True, slots=True)
class Note:
    """Some numbers about each task, at one scaffold level."""

    name: str
    """Unique in a run; parts that ask for the same note share it."""
    fresh: tuple[float, ...]
    """Values of a task never seen; their number is the width W."""
    fold: NoteFold

    def __post_init__(self) -> None:
        """Refuse a note without values."""
        if not self.fresh:
            raise ValueError(f"note {self.name!r} holds nothing")


@dataclass(frozen=True, slots=True)
class Shape:
    """How wide a run's statistics are: K components and the fresh values of the notes."""

    num_subtasks: int
    fresh: tuple[float, ...] = ()
    """[E] values of a task never seen, note after note; empty without notes."""


def layout(notes: Sequence[Note]) -> Mapping[str, slice]:
    """Columns of `x_NE` by note, in order."""
    columns: dict[str, slice] = {}
    end = 0
    for note in notes:
        columns[note.name] = slice(end, end + len(note.fresh))
        end += len(note.fresh)
    return columns


def fresh_values(notes: Sequence[Note]) -> tuple[float, ...]:
    """[E] values of a task never seen."""
    return tuple(value for note in notes for value in note.fresh)


def fold_notes(
    notes: Sequence[Note], before: TaskStatistics, summary: GroupSummary, version_N: Ints
) -> Floats:
    """[N, E] all notes after one group of each of N tasks."""
    if not notes:
        return before.x_NE
    columns = layout(notes)
    return np.concatenate(
        [
            note.fold(before.x_NE[:, columns[note.name]], before, summary, version_N)
            for note in notes
        ],
        axis=1,
    )
