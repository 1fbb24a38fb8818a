"""The catalogue: datasets, tasks and runs. One implementation, in `store/postgres`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from etude_proto.v1 import ResolvedCurriculum, RunCreate, RunStatus, TaskCreate
from etude_proto.v1.curriculum import LanesBy
from etude_sampler.statistics import Ints

from .marker import Marker


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A stored task; `body` is its wire form, encoded once at import."""

    ordinal: int
    id: str
    source: str
    subtasks: tuple[str, ...]
    body: bytes
    aids: bytes = b""
    """`etude_proto.v1.Aids` as JSON, apart from the body; empty: none."""
    features: bytes = b""
    """Doubles in the order of `curriculum.features`, without the source; empty: not computed."""


class TaskFeatures(NamedTuple):
    """What a weigher may read of a task itself."""

    ordinal: int
    source: str
    features: bytes
    """As `TaskRow.features`, never empty."""


@dataclass(frozen=True, slots=True, eq=False)
class DrawableTasks:
    """A chunk of tasks that can be drawn, by ordinal."""

    ordinals_N: Ints
    kinds: tuple[tuple[str, ...], ...]
    """Lanes (sub-tasks, a source or a level) that tasks of the chunk stand in."""
    kind_N: Ints
    """Which of them each task has."""
    features: tuple[TaskFeatures, ...] = ()
    """Of each task; empty if they were not asked for."""

    def first(self, num: int) -> DrawableTasks:
        """The first tasks of the chunk."""
        return DrawableTasks(
            self.ordinals_N[:num], self.kinds, self.kind_N[:num], self.features[:num]
        )


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset with its counts."""

    id: str
    name: str
    num_train: int
    num_held_out: int
    sources: dict[str, int]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as PostgreSQL holds it."""

    id: str
    name: str
    status: RunStatus
    spec: RunCreate
    resolved: ResolvedCurriculum
    secret: bytes
    num_tasks: int
    epoch: int
    revision: int
    policy_version: int
    weights_uri: str | None
    folded_seq: int
    allocator_state: str
    totals: dict[str, dict[str, float]]
    created_at: datetime
    forked_from: dict[str, str | int] | None = None
    """Run, checkpoint and policy version that a fork began from."""
    last_rebuild: dict[str, str | int | float] | None = None
    """What the newest rebuild found and did."""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to an earlier call with the same key."""

    status: int
    response: bytes


OnlyRuns = tuple[frozenset[str], frozenset[str]]
"""Ids and names of the only runs to list."""


class Catalog(Protocol):
    """Datasets, tasks, runs, and the control plane's idempotency keys."""

    async def create_dataset(self, dataset_id: str, name: str) -> tuple[DatasetRow, bool]:
        """The dataset of that name, and whether it is new."""

    async def get_dataset(self, dataset_id: str) -> DatasetRow:
        """Raises `DatasetNotFound`."""

    async def list_datasets(self, *, after: str | None, limit: int) -> list[DatasetRow]:
        """Datasets by id."""

    async def add_tasks(self, dataset_id: str, tasks: Sequence[TaskCreate]) -> int:
        """Append the tasks not yet there, in order; number created."""

    async def dataset_subtasks(
        self, dataset_id: str, sources: list[str] | None, *, lanes_by: LanesBy = "subtasks"
    ) -> dict[str, int]:
        """Drawable tasks per sub-task (source, level); the key '' counts all drawable tasks."""

    async def dataset_features(
        self, dataset_id: str, sources: list[str] | None
    ) -> tuple[list[str], int]:
        """Sources of the drawable tasks, and the number of features that users gave with all."""

    async def tasks_with_aid(
        self, dataset_id: str, sources: list[str] | None, aid: str, *, among: int
    ) -> list[int]:
        """Ordinals of those of the first `among` drawable tasks that bring an aid, ascending."""

    async def num_without_reference(
        self, dataset_id: str, sources: list[str] | None, *, among: int
    ) -> int:
        """How many of the first `among` drawable tasks have no gold."""

    async def num_episodes(
        self, dataset_id: str, sources: list[str] | None, *, among: int, solved_in_turns: bool
    ) -> int:
        """How many of the first `among` drawable tasks have an environment.

        Args:
            solved_in_turns: count those only whose aids hold a solution in turns.
        """

    async def tasks_by_ordinal(self, dataset_id: str, ordinals: Sequence[int]) -> list[TaskRow]:
        """Tasks, in any order."""

    async def tasks_by_id(self, dataset_id: str, ids: Sequence[str]) -> list[TaskRow]:
        """Tasks, in any order; unknown ids are absent."""

    def drawable(
        self,
        dataset_id: str,
        sources: list[str] | None,
        *,
        chunk: int,
        lanes_by: LanesBy = "subtasks",
        with_features: bool = False,
    ) -> AsyncIterator[DrawableTasks]:
        """Chunks of drawable tasks by ordinal."""

    async def create_run(self, run: RunRow) -> RunRow:
        """Store a run; the stored one if the id exists."""

    async def get_run(self, run_id: str) -> RunRow:
        """Raises `RunNotFound`."""

    async def list_runs(
        self, *, after: str | None, limit: int, only: OnlyRuns | None = None
    ) -> list[RunRow]:
        """Runs by id."""

    async def update_run(
        self, run_id: str, *, spec: RunCreate, name: str, status: RunStatus, revision: int
    ) -> RunRow:
        """Raises `RevisionMismatch` if `revision` is not the stored one."""

    async def run_markers(self, run_id: str | None = None) -> list[tuple[str, Marker]]:
        """What Redis should hold of every run, or of one."""

    async def begin_call(self, scope: str, key: str, body_hash: str) -> StoredAnswer | None:
        """Claim a key; the stored answer if there is one.

        Raises `IdempotencyKeyReused`, `IdempotencyInProgress`.
        """

    async def has_answer(self, scope: str, key: str) -> bool:
        """Whether a key has its answer already."""

    async def finish_call(self, scope: str, key: str, answer: StoredAnswer | None) -> None:
        """Keep the answer, or free the key (None) so that a retry runs again."""

    async def ping(self) -> str:
        """Revision of the schema; for readiness."""
