"""The sync client: every operation of the contract as one typed method.

Declared in `operations.py`, sent by `connections.py`; `async_client.py` is its twin, and a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from etude_proto.v1 import (
    MAX_PAGE,
    AckReceipt,
    AckRequest,
    CurriculumView,
    Dataset,
    DatasetCreate,
    DatasetPage,
    ExtendRequest,
    Health,
    HistoryPage,
    HistoryPoint,
    ImportReceipt,
    Lease,
    PolicyVersionRequest,
    PredictionsReceipt,
    PredictionsRequest,
    PromptBatch,
    PromptBatchRequest,
    Rebuild,
    Receipt,
    Released,
    ReleaseRequest,
    Report,
    Run,
    RunCreate,
    RunPage,
    RunUpdate,
    TaskPage,
    TaskSummary,
    TaskView,
    TrainingBatchRequest,
)

from . import operations
from .call import TrainingFrame
from .deleting import DeleteCalls
from .drawing import DrawingCalls
from .importing import ImportingCalls
from .operations import TaskKind, TaskOrder
from .paging import all_items
from .travel import TravelCalls


class EtudeClient(TravelCalls, DeleteCalls, DrawingCalls, ImportingCalls):
    """A client of a sampler for code without an event loop; safe to share between threads.

    Arguments of the constructor: see `AsyncConnection`. A mutating call makes its own idempotency
    key unless one is given; give one to repeat a call across restarts of the caller. Every call
    may raise `ApiError` (one class per problem code), `Unreachable` or `AnswerInvalid`.
    """

    def create_dataset(
        self, request: DatasetCreate, *, idempotency_key: str | None = None
    ) -> Dataset:
        """Create a dataset, or get the existing one of that name."""
        return self._send(operations.create_dataset(request, key=idempotency_key))

    def list_datasets(self, *, limit: int | None = None, cursor: str | None = None) -> DatasetPage:
        """One page of datasets."""
        return self._send(operations.list_datasets(limit=limit, cursor=cursor))

    def get_dataset(self, dataset_id: str) -> Dataset:
        """One dataset."""
        return self._send(operations.get_dataset(dataset_id))

    def import_tasks(
        self, dataset_id: str, lines: Iterable[bytes], *, idempotency_key: str | None = None
    ) -> ImportReceipt:
        """Stream tasks as NDJSON, one `TaskCreate` a line; idempotent by content.

        A list, or another iterable that can start anew, is sent again after a lost connection; an
        iterator that has started cannot be, and the call ends with `Unreachable`.
        """
        return self._send(
            operations.import_tasks(dataset_id, lines, key=idempotency_key, compress=self._compress)
        )

    def create_run(self, request: RunCreate, *, idempotency_key: str | None = None) -> Run:
        """Create a run."""
        return self._send(operations.create_run(request, key=idempotency_key))

    def list_runs(self, *, limit: int | None = None, cursor: str | None = None) -> RunPage:
        """One page of runs."""
        return self._send(operations.list_runs(limit=limit, cursor=cursor))

    def get_run(self, run_id: str) -> Run:
        """One run."""
        return self._send(operations.get_run(run_id))

    def update_run(
        self, run_id: str, request: RunUpdate, *, revision: int, idempotency_key: str | None = None
    ) -> Run:
        """Change a run that is still at `revision` (else `RevisionMismatch`)."""
        return self._send(
            operations.update_run(run_id, request, revision=revision, key=idempotency_key)
        )

    def pause_run(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """Stop drawing: prompt batches come back empty until `resume_run`."""
        return self._send(operations.pause_run(run_id, key=idempotency_key))

    def resume_run(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """Draw again."""
        return self._send(operations.resume_run(run_id, key=idempotency_key))

    def rebuild_run(self, run_id: str, *, idempotency_key: str | None = None) -> Rebuild:
        """Load a run's hot state anew from PostgreSQL; takes seconds per million tasks."""
        return self._send(operations.rebuild_run(run_id, key=idempotency_key))

    def lease_prompt_batch(
        self, run_id: str, request: PromptBatchRequest, *, idempotency_key: str | None = None
    ) -> PromptBatch:
        """Draw and lease tasks; may be short or empty, then `degraded_reason` says why."""
        return self._send(operations.lease_prompt_batch(run_id, request, key=idempotency_key))

    def extend_lease(
        self, lease_id: str, request: ExtendRequest, *, idempotency_key: str | None = None
    ) -> Lease:
        """Heartbeat of a prompt batch's lease."""
        return self._send(operations.extend_lease(lease_id, request, key=idempotency_key))

    def release_lease(
        self, lease_id: str, request: ReleaseRequest, *, idempotency_key: str | None = None
    ) -> Released:
        """Give back the tasks that were not reported."""
        return self._send(operations.release_lease(lease_id, request, key=idempotency_key))

    def report_groups(
        self, lease_id: str, report: Report | bytes, *, idempotency_key: str | None = None
    ) -> Receipt:
        """Report outcomes; with tokens, one group as a safetensors body (`encode_group`)."""
        return self._send(operations.report_groups(lease_id, report, key=idempotency_key))

    def lease_training_batch(
        self, run_id: str, request: TrainingBatchRequest, *, idempotency_key: str | None = None
    ) -> TrainingFrame:
        """Lease ready groups; without any, `manifest.lease` is null."""
        return self._send(operations.lease_training_batch(run_id, request, key=idempotency_key))

    def extend_training_batch(
        self, lease_id: str, request: ExtendRequest, *, idempotency_key: str | None = None
    ) -> Lease:
        """Heartbeat of a training batch's lease."""
        return self._send(operations.extend_training_batch(lease_id, request, key=idempotency_key))

    def ack_training_batch(
        self, lease_id: str, request: AckRequest, *, idempotency_key: str | None = None
    ) -> AckReceipt:
        """Settle a training batch and announce the version that its step produced."""
        return self._send(operations.ack_training_batch(lease_id, request, key=idempotency_key))

    def release_training_batch(
        self, lease_id: str, request: ReleaseRequest, *, idempotency_key: str | None = None
    ) -> Released:
        """Give the groups back to the ready queue."""
        return self._send(operations.release_training_batch(lease_id, request, key=idempotency_key))

    def announce_policy_version(
        self, run_id: str, request: PolicyVersionRequest, *, idempotency_key: str | None = None
    ) -> AckReceipt:
        """Announce a version in a curriculum-only run."""
        return self._send(operations.announce_policy_version(run_id, request, key=idempotency_key))

    def post_predictions(
        self, run_id: str, request: PredictionsRequest, *, idempotency_key: str | None = None
    ) -> PredictionsReceipt:
        """Hand in predicted probabilities of success."""
        return self._send(operations.post_predictions(run_id, request, key=idempotency_key))

    def get_curriculum(self, run_id: str, *, window: int | None = None) -> CurriculumView:
        """The state of the curriculum now; recent arms cover the newest `window` versions."""
        return self._send(operations.get_curriculum(run_id, window=window))

    def get_history(
        self, run_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> HistoryPage:
        """One page of policy versions, oldest first."""
        return self._send(operations.get_history(run_id, limit=limit, cursor=cursor))

    def list_tasks(
        self,
        run_id: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        order: TaskOrder = "ordinal",
        subtask: str | None = None,
        source: str | None = None,
        only: TaskKind | None = None,
        q: str | None = None,
    ) -> TaskPage:
        """One page of the run's tasks; it may be short, or empty, before the last."""
        return self._send(
            operations.list_tasks(
                run_id,
                limit=limit,
                cursor=cursor,
                order=order,
                subtask=subtask,
                source=source,
                only=only,
                q=q,
            )
        )

    def get_task(self, run_id: str, task_id: str) -> TaskView:
        """Why a task has its weight."""
        return self._send(operations.get_task(run_id, task_id))

    def livez(self) -> Health:
        """Whether the process runs."""
        return self._send(operations.health("livez"))

    def readyz(self) -> Health:
        """Whether every dependency is there; not retried, ill health is an answer."""
        return self._send(operations.health("readyz"))

    def startupz(self) -> Health:
        """Whether start-up is over; not retried."""
        return self._send(operations.health("startupz"))

    def iter_datasets(self) -> Iterator[Dataset]:
        """All datasets, page by page."""
        return all_items(lambda cursor: self.list_datasets(limit=MAX_PAGE, cursor=cursor))

    def iter_runs(self) -> Iterator[Run]:
        """All runs, page by page."""
        return all_items(lambda cursor: self.list_runs(limit=MAX_PAGE, cursor=cursor))

    def iter_history(self, run_id: str) -> Iterator[HistoryPoint]:
        """All policy versions, oldest first."""
        return all_items(lambda cursor: self.get_history(run_id, limit=MAX_PAGE, cursor=cursor))

    def iter_tasks(
        self,
        run_id: str,
        *,
        order: TaskOrder = "ordinal",
        subtask: str | None = None,
        source: str | None = None,
    ) -> Iterator[TaskSummary]:
        """All tasks of the run, page by page."""
        return all_items(
            lambda cursor: self.list_tasks(
                run_id, limit=MAX_PAGE, cursor=cursor, order=order, subtask=subtask, source=source
            )
        )
