"""What every step needs to know of a run, cached briefly; and the cache of encoded tasks.

A run's context is refreshed every second and whenever Redis holds another epoch. Tasks never
change, so their cache is bounded only by bytes.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude_proto.v1 import RunStatus
from etude_sampler.curriculum import AllocatorState, ConfigFault, Curriculum, at_pace, build
from etude_sampler.curriculum.pace import paced_parts
from etude_sampler.leasing import lane_key
from etude_sampler.statistics import Bools, Shape

from ..errors import PartNotInstalled
from ..ports.catalog import Catalog, RunRow, TaskRow
from ..ports.races import Announced, RaceLimits, RunKey

_FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run and the parts of its curriculum."""

    row: RunRow
    curriculum: Curriculum
    lane_keys: tuple[int, ...]

    @property
    def key(self) -> RunKey:
        """Name of the run's hot state."""
        return RunKey(self.row.id, self.row.epoch, len(self.lane_keys))

    @property
    def num_subtasks(self) -> int:
        """K."""
        return len(self.curriculum.subtasks)

    @property
    def shape(self) -> Shape:
        """How wide the statistics of a task are."""
        return self.curriculum.shape

    @property
    def limits(self) -> RaceLimits:
        """What Redis enforces."""
        limits = self.row.spec.limits
        return RaceLimits(
            revision=self.row.revision,
            paused=self.row.status is RunStatus.PAUSED,
            cap=limits.cap_in(self.row.spec.mode),
            worker_cap=limits.leases_per_worker,
            max_staleness=limits.max_staleness,
            cargo_bytes=limits.cargo_bytes,
        )

    @property
    def refill_limit(self) -> int:
        """Groups returned since the last training batch that end the wait for more."""
        limits = self.row.spec.limits
        draw = -(-limits.training_batch_groups * limits.refill_over_draw // 1)
        return int(draw) * (1 + limits.refill_rounds)

    def state(self) -> AllocatorState:
        """The allocator's state as of the last fold."""
        return AllocatorState.from_json(json.loads(self.row.allocator_state))

    def active(self, tasks: Sequence[tuple[str, ...]]) -> Bools:
        """[N, K]: which component lanes each task stands in, from its sub-tasks."""
        names = self.curriculum.subtasks
        return np.array([[name in subtasks for name in names] for subtasks in tasks], dtype=bool)


def announced(row: RunRow, curriculum: Curriculum, state: AllocatorState) -> Announced:
    """The run's policy version as pushed to Redis."""
    named = named_weights(curriculum, state)
    return Announced(row.policy_version, row.weights_uri, json.dumps(named))


def named_weights(curriculum: Curriculum, state: AllocatorState) -> dict[str, float]:
    """Weights of the reward components by name; none if the lanes are no components."""
    if curriculum.lanes_by != "subtasks":
        return {}
    weights = curriculum.allocator.component_weights(state)
    return {name: float(w) for name, w in zip(curriculum.subtasks, weights, strict=True)}


def bound(curriculum: Curriculum, row: RunRow) -> Curriculum:
    """The run's parts at the pace of its newest version."""
    if not paced_parts(curriculum):
        return curriculum
    return at_pace(curriculum, AllocatorState.from_json(json.loads(row.allocator_state)).pace)


def stored_parts(row: RunRow) -> Curriculum:
    """The parts that a stored run names, as it began.

    Raises:
        PartNotInstalled: one of them was installed when the run was created, and is not here now.
    """
    try:
        return build(row.resolved)
    except ConfigFault as fault:
        raise PartNotInstalled(f"run {row.id}: {fault.pointer}: {fault.detail}") from fault


def make_context(row: RunRow) -> RunContext:
    """Build the parts that a stored run names. Raises `PartNotInstalled`."""
    curriculum = bound(stored_parts(row), row)
    return RunContext(row, curriculum, tuple(lane_key(name) for name in curriculum.lanes))


class RunContexts:
    """Contexts of the runs that this replica serves."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._found: dict[str, tuple[float, RunContext]] = {}

    async def get(self, run_id: str) -> RunContext:
        """A context at most a second old. Raises `RunNotFound`."""
        held = self._found.get(run_id)
        if held is not None and time.monotonic() - held[0] < _FRESH_S:
            return held[1]
        return await self.refresh(run_id)

    async def refresh(self, run_id: str) -> RunContext:
        """Read the run now. Raises `RunNotFound`."""
        row = await self._catalog.get_run(run_id)
        held = self._found.get(run_id)
        if held is not None and held[1].row.resolved == row.resolved:
            context = RunContext(row, bound(held[1].curriculum, row), held[1].lane_keys)
        else:
            context = make_context(row)
        self._found[run_id] = (time.monotonic(), context)
        return context

    def forget(self, run_id: str) -> None:
        """Read the run afresh next time."""
        self._found.pop(run_id, None)


class TaskCache:
    """Encoded tasks by (dataset, ordinal) and (dataset, id); least recently used go first."""

    def __init__(self, catalog: Catalog, *, max_bytes: int) -> None:
        self._catalog = catalog
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rows: OrderedDict[tuple[str, int], TaskRow] = OrderedDict()
        self._ordinals: dict[tuple[str, str], int] = {}

    async def by_ordinals(self, dataset_id: str, ordinals: Sequence[int]) -> list[TaskRow]:
        """Tasks in the order asked for."""
        found: dict[int, TaskRow] = {}
        for ordinal in ordinals:
            row = self._rows.get((dataset_id, ordinal))
            if row is not None:
                self._rows.move_to_end((dataset_id, ordinal))
                found[ordinal] = row
        missing = [ordinal for ordinal in ordinals if ordinal not in found]
        if missing:
            for row in await self._catalog.tasks_by_ordinal(dataset_id, missing):
                found[row.ordinal] = row
                self._keep(dataset_id, row)
        return [found[ordinal] for ordinal in ordinals]

    async def by_ids(self, dataset_id: str, ids: Sequence[str]) -> dict[str, TaskRow]:
        """Tasks by id; unknown ids are absent."""
        found: dict[str, TaskRow] = {}
        for identifier in ids:
            ordinal = self._ordinals.get((dataset_id, identifier))
            row = None if ordinal is None else self._rows.get((dataset_id, ordinal))
            if row is not None:
                found[identifier] = row
        missing = [identifier for identifier in ids if identifier not in found]
        if missing:
            for row in await self._catalog.tasks_by_id(dataset_id, missing):
                found[row.id] = row
                self._keep(dataset_id, row)
        return found

    def _keep(self, dataset_id: str, row: TaskRow) -> None:
        key = (dataset_id, row.ordinal)
        if key in self._rows:
            return
        self._rows[key] = row
        self._ordinals[(dataset_id, row.id)] = row.ordinal
        self._bytes += len(row.body) + len(row.aids)
        while self._bytes > self._max_bytes and len(self._rows) > 1:
            (old_dataset, _), old = self._rows.popitem(last=False)
            self._ordinals.pop((old_dataset, old.id), None)
            self._bytes -= len(old.body) + len(old.aids)
