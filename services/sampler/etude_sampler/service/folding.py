"""Statistics of a report's tasks while its attempts are folded: pure. Used by `reporting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from etude_sampler.curriculum.hard import HardSampling, Visit
from etude_sampler.statistics import (
    Floats,
    GroupSummary,
    Shape,
    TaskStatistics,
    empty,
    fold,
)

from ..ports.ledger import BARE, CommitView, StatisticsKey, StatisticsRows
from .context import RunContext
from .hard_states import visit_rows


class Folder:
    """Statistics of the report's keys while its attempts are folded, in order."""

    def __init__(self, context: RunContext, view: CommitView, ordinals: Sequence[int]) -> None:
        self._context = context
        self._keys = list(view.statistics.keys)
        self._at = {key: i for i, key in enumerate(self._keys)}
        self._values, self._fences = view.statistics.values, view.statistics.fences
        self.touched: set[int] = set()
        self._add([StatisticsKey(ordinal, *BARE) for ordinal in ordinals])

    def _add(self, keys: Sequence[StatisticsKey]) -> None:
        new = [key for key in dict.fromkeys(keys) if key not in self._at]
        if new:
            self._at |= {key: len(self._keys) + i for i, key in enumerate(new)}
            self._keys += new
            shape = self._context.shape
            self._values = join(self._values, empty(len(new), shape.num_subtasks, shape.fresh))
            self._fences = np.concatenate([self._fences, np.zeros(len(new), np.int64)])

    def fold(
        self, keys: Sequence[StatisticsKey], summary: GroupSummary, version: int
    ) -> tuple[Floats, Floats]:
        """Fold one group into each key's row; component EMAs before and after."""
        self._add(keys)
        at = np.array([self._at[key] for key in keys], dtype=np.int64)
        before = self._values.select(at)
        after = fold(
            before,
            summary,
            version_N=np.full(len(at), version, dtype=np.int64),
            constants=self._context.curriculum.estimator,
            notes=self._context.curriculum.notes,
        )
        self._values = put(self._values, at, after)
        self.touched.update(at.tolist())
        return before.m_NK, after.m_NK

    def visit(self, visits: Sequence[Visit], hard: HardSampling) -> None:
        """Move the tasks' states of hard sampling by groups at any scaffold, in order."""
        rows = [self._at[StatisticsKey(visit.ordinal, *BARE)] for visit in visits]
        x_NE = self._values.x_NE.copy()
        visit_rows(x_NE, list(zip(rows, visits, strict=True)), hard)
        self.touched.update(np.flatnonzero(np.any(x_NE != self._values.x_NE, axis=1)).tolist())
        self._values = replace(self._values, x_NE=x_NE)

    def rows(self, fence: int) -> StatisticsRows:
        """All rows now; those that were folded carry the report's fence."""
        fences = self._fences.copy()
        fences[sorted(self.touched)] = fence
        return StatisticsRows(tuple(self._keys), fences, self._values)


def notes_of(packed: Mapping[int, bytes], ordinals: Sequence[int], shape: Shape) -> Floats:
    """[N, E] notes of tasks, by what is stored of each; those of a task never seen otherwise."""
    fresh = np.array(shape.fresh, dtype="<f8").tobytes()
    whole = b"".join(packed.get(ordinal) or fresh for ordinal in ordinals)
    return np.frombuffer(whole, dtype="<f8").reshape(len(ordinals), len(shape.fresh))


def join(first: TaskStatistics, second: TaskStatistics) -> TaskStatistics:
    """Rows of `first`, then rows of `second`."""
    names = TaskStatistics.__slots__
    return TaskStatistics(
        **{n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in names}
    )


def put(stats: TaskStatistics, rows: np.ndarray, new: TaskStatistics) -> TaskStatistics:
    """`stats` with `rows` replaced."""
    columns = {}
    for name in TaskStatistics.__slots__:
        column = getattr(stats, name).copy()
        column[rows] = getattr(new, name)
        columns[name] = column
    return TaskStatistics(**columns)


def select_summary(summary: GroupSummary, rows: Sequence[int]) -> GroupSummary:
    """Some rows of a summary."""
    at = np.array(rows, dtype=np.int64)
    return GroupSummary(**{n: getattr(summary, n)[at] for n in GroupSummary.__slots__})


def pick(rows: StatisticsRows, at: Sequence[int]) -> StatisticsRows:
    """Some rows, in that order."""
    index = np.array(at, dtype=np.int64)
    return StatisticsRows(
        tuple(rows.keys[i] for i in at), rows.fences[index], rows.values.select(index)
    )
