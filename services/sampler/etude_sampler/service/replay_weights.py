"""Whether the weights that tasks entered their lanes with follow from the ledger. Used by `replay`.

A weight is a function of the task's statistics and of a policy version. The statistics are those
after the lease's own report. The version is that of the report's transaction, or the one announced
when the tasks came back: a call reads it before its script runs, so every version between the
lease's draw and the next announcement may be meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from etude_sampler.statistics import Bools, Floats, Ints

from .context import RunContext
from .entering import lane_weights
from .replay_ledger import LedgerWalk
from .replay_log import Entered
from .replay_races import Differs, first_of

_MAX_VERSIONS = 64
"""Versions tried for one lease (our choice; a lease outlives a few at most)."""


class WeightCheck:
    """Weights of one run's tasks from the ledger's walk."""

    def __init__(
        self, context: RunContext, active_NK: Bools, features_NF: Floats | None = None
    ) -> None:
        self._context = context
        self._active_NK = active_NK
        """[num_ordinals, K]: the component lanes of each task."""
        self._features_NF = features_NF
        """[num_ordinals, F]; None if the weigher reads none."""

    def at(self, walk: LedgerWalk, tasks_N: Ints, *, version: int) -> Ints:
        """[N, 1 + K] weights of tasks by their statistics now."""
        return lane_weights(
            self._context,
            walk.stats.select(tasks_N),
            self._active_NK[tasks_N],
            version=version,
            pace=walk.pace_at(version),
            features_NF=None if self._features_NF is None else self._features_NF[tasks_N],
        )

    def check(
        self, walk: LedgerWalk, found: Entered, *, versions: Iterable[int], kept: Ints | None = None
    ) -> None:
        """Compare with the weights at any of these versions, the likeliest first.

        Args:
            walk: the ledger, as far as it was folded then.
            found: what was written.
            versions: versions that may have been meant.
            kept: for a re-weigh the weights before; it never enters a task into a lane.

        Raises:
            Differs: a weight is that of no version.
        """
        left = np.arange(len(found.tasks_N))
        first: tuple[Ints, Ints] | None = None
        for version in list(dict.fromkeys(versions))[:_MAX_VERSIONS]:
            want_NL = self.at(walk, found.tasks_N[left], version=version)
            if kept is not None:
                want_NL = np.where(kept[left] > 0, want_NL, 0)
            if first is None:
                first = left, want_NL
            left = left[np.any(want_NL != found.weights_NL[left], axis=1)]
            if not len(left):
                return
        assert first is not None
        row = int(left[0])
        at = int(np.flatnonzero(first[0] == row)[0])
        lane = int(np.flatnonzero(first[1][at] != found.weights_NL[row])[0])
        one = slice(row, row + 1)
        name = self._context.curriculum.lanes[lane]
        told = first_of(
            found.tasks_N[one], found.weights_NL[one, lane], first[1][at : at + 1, lane]
        )
        raise Differs(f"weight in lane {name} of {told}")


async def active_lanes(
    context: RunContext, pages: Mapping[int, tuple[str, ...]], *, num_ordinals: int
) -> Bools:
    """[num_ordinals, K] from sub-tasks by ordinal; False where there is no drawable task."""
    active_NK = np.zeros((num_ordinals, context.num_subtasks), dtype=np.bool_)
    ordinals = np.array(list(pages), dtype=np.int64)
    if len(ordinals):
        active_NK[ordinals] = context.active(list(pages.values()))
    return active_NK
