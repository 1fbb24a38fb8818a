"""What a rebuild loads, chunk by chunk: weights from statistics, fresh draws, packed records. Pure.

Everything is arrays; the draws are those of `entering`, which settle uses for one task at a time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from etude_sampler.leasing import arrival
from etude_sampler.statistics import Ints, TaskStatistics, empty

from ..ports.catalog import DrawableTasks
from ..ports.ledger import BareStatistics
from ..ports.loading import Load
from .context import RunContext
from .entering import draws, lane_weights, pack_records
from .folding import put
from .traits import feature_rows

ENTRIES_PER_EPOCH = 1 << 20
"""Stays of a task in the lanes within one epoch."""


def make_load(context: RunContext, tasks: DrawableTasks, found: BareStatistics) -> Load:
    """The first stay of these tasks in their lanes at the run's epoch."""
    weights_NL = lane_weights(
        context,
        _spread(context, tasks.ordinals_N, found),
        context.active(tasks.kinds)[tasks.kind_N],
        version=context.row.policy_version,
        features_NF=feature_rows(
            context.curriculum,
            [one.source for one in tasks.features],
            [one.features for one in tasks.features],
        ),
    )
    entries_N = np.full(len(weights_NL), context.row.epoch * ENTRIES_PER_EPOCH, dtype=np.int64)
    draws_NL = draws(context, tasks.ordinals_N, entries_N)
    arrivals_NL = np.where(weights_NL > 0, arrival(0.0, draws_NL, np.maximum(weights_NL, 1)), 0.0)
    return Load(tasks.ordinals_N, pack_records(entries_N, weights_NL), weights_NL, arrivals_NL)


def _spread(context: RunContext, ordinals_N: Ints, found: BareStatistics) -> TaskStatistics:
    """Statistics of the tasks of a chunk; empty rows for those never seen."""
    stats = empty(len(ordinals_N), context.num_subtasks, context.shape.fresh)
    at_M = np.searchsorted(ordinals_N, found.ordinals_N)
    there_M = ordinals_N[np.minimum(at_M, len(ordinals_N) - 1)] == found.ordinals_N
    rows_M = np.flatnonzero(there_M)
    return put(stats, at_M[rows_M], found.values.select(rows_M))


@dataclass(slots=True)
class Tally:
    """What was loaded so far."""

    num_lanes: int
    num_tasks: int = 0
    num_seen: int = 0
    totals_L: Ints = field(init=False)
    """Weights in units of 1e-6."""
    sizes_L: Ints = field(init=False)
    """Tasks."""
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self.totals_L = np.zeros(self.num_lanes, dtype=np.int64)
        self.sizes_L = np.zeros(self.num_lanes, dtype=np.int64)

    def add(self, load: Load, found: BareStatistics) -> None:
        """Count a chunk; chunks come by ordinal, so that how they are cut changes nothing."""
        self.num_tasks += len(load.ordinals_N)
        self.num_seen += len(found.ordinals_N)
        self.totals_L += load.weights_NL.sum(axis=0)
        self.sizes_L += np.count_nonzero(load.weights_NL, axis=0)
        self._digest.update(found.content)

    @property
    def digest(self) -> str:
        """SHA-256 of the un-scaffolded statistics, task by task."""
        return self._digest.hexdigest()
