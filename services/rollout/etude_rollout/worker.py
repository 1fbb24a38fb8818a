"""The worker loop: lease prompt batches, keep several in work, stop without losing one.

    lease (long poll) -> BatchWork (weights, episodes, reports) -> a slot is free -> lease ...

`batch.py` does the work of a batch; `service.py` makes the worker and decides the exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid

from etude_client import AsyncEtudeClient
from etude_client.errors import (
    Busy,
    EtudeError,
    IdempotencyInProgress,
    InternalError,
    RunNotFound,
    Unreachable,
)
from etude_client.tracing import version_span
from etude_proto.v1 import PromptBatch, PromptBatchRequest, Run, RunMode

from .batch import BatchEnd, BatchWork, Workshop
from .engines.base import Engine, EngineUnavailable
from .status import Phase, WorkerStatus

_log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Pause after something that is not there: sampler, run, engine."""
LONGEST_RETRY_S = 10.0
"""Most that pauses after failed weight loads grow to."""
IDLE_S = 0.2
"""Pause after an empty batch that came at once (our choice; long polls are the normal wait)."""
LISTEN_S = 2.0
"""How often a worker asks for the run's version, to hear of it while all its slots are at work."""
MAX_WEIGHT_FAILURES = 10
"""Batches in a row that end without weights before the worker gives up (our choice)."""


class WorkerFailed(Exception):
    """The worker must not or cannot go on; a person has to look."""


async def find_run(client: AsyncEtudeClient, name_or_id: str) -> Run | None:
    """The run of this id, or else the only one of this name; null when there is none.

    Raises:
        EtudeError: the sampler does not answer, or refuses.
        WorkerFailed: several runs have this name.
    """
    if name_or_id.startswith("run_"):
        try:
            return await client.get_run(name_or_id)
        except RunNotFound:
            return None
    found = [run async for run in client.iter_runs() if run.name == name_or_id]
    if len(found) > 1:
        ids = ", ".join(run.id for run in found)
        raise WorkerFailed(f"{len(found)} runs are called {name_or_id!r}: {ids}; give an id")
    return found[0] if found else None


async def wait_for_run(client: AsyncEtudeClient, name_or_id: str, status: WorkerStatus) -> Run:
    """The run, as soon as the sampler answers and knows it.

    Raises:
        WorkerFailed: the sampler refuses us.
    """
    while True:
        status.phase = Phase.WAITING_FOR_RUN
        try:
            run = await find_run(client, name_or_id)
        except (Unreachable, Busy, InternalError) as error:
            status.last_error = str(error)
        except EtudeError as error:
            raise WorkerFailed(f"the sampler refuses this worker: {error}") from error
        else:
            if run is not None:
                status.run_id = run.id
                return run
            status.last_error = f"the sampler knows no run {name_or_id!r}"
        _log.info("run.awaited", extra={"run": name_or_id, "detail": status.last_error})
        await asyncio.sleep(RETRY_S)


class Worker:
    """Works for one run until it is stopped."""

    def __init__(
        self,
        shop: Workshop,
        engine: Engine,
        *,
        request: PromptBatchRequest,
        batches_in_flight: int,
        grace_s: float,
    ) -> None:
        """
        Args:
            request: what every lease call asks for.
            grace_s: how long batches in work may go on after `stop`.
        """
        self._shop = shop
        self._engine = engine
        self._request = request
        self._batches_in_flight = batches_in_flight
        self._grace_s = grace_s
        self._batches: dict[asyncio.Task[BatchEnd], BatchWork] = {}
        self._stopping = asyncio.Event()
        self._is_cut_short = False
        self._failure: BaseException | None = None
        self._num_weight_failures = 0
        self._heard = shop.run.policy_version
        """The run's version, as far as we know."""

    def stop(self) -> None:
        """Take no more batches; `run` returns when those in work are done or given back."""
        self._stopping.set()

    def cut_short(self) -> None:
        """Stop, and give back at once what is not reported yet."""
        self._stopping.set()
        self._is_cut_short = True
        for batch in self._batches.values():
            batch.cut_short()

    async def run(self) -> None:
        """Lease and work until `stop`.

        Raises:
            WorkerFailed: the weights are wrong, the sampler refuses us, or there is a bug.
        """
        listening = asyncio.create_task(self._listen(), name="run version")
        try:
            while await self._has_room():
                await self._take_batch()
        finally:
            self._shop.status.phase = Phase.STOPPING
            await self._finish_batches()
            listening.cancel()
        if self._failure is not None:
            raise WorkerFailed(str(self._failure)) from self._failure

    async def _has_room(self) -> bool:
        """Wait until another batch can be worked on; false when the worker is stopped."""
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            while len(self._batches) >= self._batches_in_flight and not stopped.done():
                await asyncio.wait({*self._batches, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if self._num_weight_failures:
            await self._pause(min(RETRY_S * 2.0**self._num_weight_failures, LONGEST_RETRY_S))
        while not self._stopping.is_set():
            try:
                await self._engine.check()
            except EngineUnavailable as error:
                self._shop.status.phase = Phase.WAITING_FOR_ENGINE
                self._shop.status.last_error = str(error)
                _log.warning("engine.awaited", extra={"detail": error})
                await self._pause(RETRY_S)
            else:
                return True
        return False

    async def _take_batch(self) -> None:
        batch = await self._lease()
        if batch is not None:
            self._hear(batch.policy_version)
        if batch is None or batch.lease is None:
            return
        work = BatchWork(self._shop, batch, batch.lease)
        if self._is_cut_short:
            work.cut_short()
        task = asyncio.create_task(work.run(), name=f"batch {batch.lease.id}")
        self._batches[task] = work
        self._count_batches()
        task.add_done_callback(self._batch_ended)

    async def _listen(self) -> None:
        """Hear of new versions also while nothing is leased."""
        if self._shop.run.mode is not RunMode.TRAINING:
            return
        while True:
            await asyncio.sleep(LISTEN_S)
            try:
                run = await self._shop.client.get_run(self._shop.run.id)
            except EtudeError as error:
                _log.debug("run.not_heard", extra={"detail": error})
            else:
                self._hear(run.policy_version)

    def _hear(self, policy_version: int) -> None:
        self._heard = policy_version
        for work in self._batches.values():
            work.hear(policy_version)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for a worker that was stopped meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _lease(self) -> PromptBatch | None:
        """One lease call; null when there is nothing, after a pause.

        A stop does not cut the call short: its lease would be nobody's until it expired.

        Raises:
            WorkerFailed: the sampler refuses us.
        """
        status = self._shop.status
        status.phase = Phase.LEASING
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            with version_span("lease prompt batch", self._shop.run.id, self._heard) as span:
                batch = await self._shop.client.lease_prompt_batch(
                    self._shop.run.id, self._request, idempotency_key=uuid.uuid4().hex
                )
                if batch.lease is not None:
                    span.set_attribute("etude.lease", batch.lease.id)
        except (Unreachable, Busy, InternalError, IdempotencyInProgress) as error:
            status.phase = Phase.WAITING_FOR_RUN
            status.last_error = str(error)
            _log.warning("lease.failed", extra={"detail": error})
            await self._pause(RETRY_S)
            return None
        except EtudeError as error:
            raise WorkerFailed(f"the sampler refuses this worker: {error}") from error
        if batch.lease is None and loop.time() - started_s < IDLE_S:
            await self._pause(IDLE_S)
        return batch

    def _batch_ended(self, task: asyncio.Task[BatchEnd]) -> None:
        self._batches.pop(task)
        self._count_batches()
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._fail(error)
        elif task.result() is BatchEnd.NO_WEIGHTS:
            self._num_weight_failures += 1
            if self._num_weight_failures >= MAX_WEIGHT_FAILURES:
                self._fail(WorkerFailed(f"no weights to load: {self._shop.status.last_error}"))
        elif task.result() is BatchEnd.DONE:
            self._num_weight_failures = 0

    def _fail(self, error: BaseException) -> None:
        """Stop at once: what is being generated must not be reported."""
        if self._failure is None:
            self._failure = error
            _log.error("worker.failed", extra={"detail": error}, exc_info=error)
        self.cut_short()

    async def _finish_batches(self) -> None:
        if not self._batches:
            return
        _, late = await asyncio.wait(self._batches, timeout=self._grace_s)
        if late:
            self.cut_short()
            await asyncio.wait(late)

    def _count_batches(self) -> None:
        self._shop.status.batches_in_flight = len(self._batches)
        self._shop.metrics.batches_in_flight.set(len(self._batches))
