"""A client that remembers: it reports outcomes all the time, and what it was told must be true.

A run in curriculum-only mode of its own, over the published address, while containers die.
"""

from __future__ import annotations

import threading
from collections import Counter

from etude_client import EtudeClient
from etude_client.errors import EtudeError
from etude_proto.v1 import (
    CurriculumConfig,
    DatasetCreate,
    PromptBatchRequest,
    RunCreate,
    RunLimits,
    RunMode,
    Verdict,
)
from support.workload import lines, report_of, task

from .shell import Failed
from .stage import Stage

NUM_TASKS = 24
GROUP_SIZE = 2
_LEDGER = """
SELECT l.lease_id, t.id FROM ledger l JOIN runs r ON r.id = l.run_id
JOIN tasks t ON t.dataset_id = r.dataset_id AND t.ordinal = l.ordinal
WHERE l.run_id = '{run}' AND l.verdict = 'applied'
"""


class Witness:
    """Leases and reports from a thread of its own."""

    def __init__(self, url: str, api_key: str) -> None:
        self._client = EtudeClient(url, api_key=api_key, max_attempts=60)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="witness")
        self.applied: Counter[tuple[str, str]] = Counter()
        """(lease, task) -> times that a receipt said it was applied."""
        self.unsure: set[tuple[str, str]] = set()
        """Reports that ended in an error, so that nobody knows."""
        self.num_errors = 0
        self.error: Exception | None = None
        dataset = self._client.create_dataset(DatasetCreate(name="witness"))
        tasks = [task(number, subtasks=("format",)) for number in range(NUM_TASKS)]
        self._client.import_tasks(dataset.id, lines(tasks).splitlines())
        self.run = self._client.create_run(
            RunCreate(
                name="witness",
                dataset_id=dataset.id,
                mode=RunMode.CURRICULUM_ONLY,
                curriculum=CurriculumConfig(preset="dscl"),
                group_size=GROUP_SIZE,
                limits=RunLimits(lease_ttl_s=10.0),
            )
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the report under way."""
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def _work(self) -> None:
        request = PromptBatchRequest(num_tasks=4, worker="witness", wait_s=1.0)
        while not self._stopping.is_set():
            try:
                self._once(request)
            except EtudeError:
                self.num_errors += 1
                self._stopping.wait(0.2)
            except Exception as error:
                self.error = error
                return

    def _once(self, request: PromptBatchRequest) -> None:
        batch = self._client.lease_prompt_batch(self.run.id, request)
        if batch.lease is None:
            return
        names = {(batch.lease.id, item.task.id) for item in batch.items}
        self.unsure |= names
        report = report_of(batch, group_size=GROUP_SIZE)
        receipt = self._client.report_groups(batch.lease.id, report)
        self.unsure -= names
        for group in receipt.groups:
            if any(attempt.verdict is Verdict.APPLIED for attempt in group.attempts):
                self.applied[(batch.lease.id, group.task_id)] += 1

    def check(self, stage: Stage) -> str:
        """Compare with the ledger: nothing lost, nothing counted twice.

        Raises:
            Failed: it is not so.
        """
        if self.error is not None:
            raise Failed(f"the witness fell over: {self.error!r}")
        rows = Counter((row[0], row[1]) for row in stage.query(_LEDGER.format(run=self.run.id)))
        twice = [name for name, times in rows.items() if times > 1]
        lost = [name for name in self.applied if name not in rows]
        extra = [name for name in rows if name not in self.applied and name not in self.unsure]
        if twice or lost or extra or not rows:
            raise Failed(f"ledger and receipts differ: {twice=} {lost=} {extra=} {len(rows)=}")
        return (
            f"{len(self.applied)} reported groups acknowledged, all of them once in the ledger "
            f"({self.num_errors} calls refused, {len(self.unsure)} without an answer)"
        )
