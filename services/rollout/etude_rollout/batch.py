"""One prompt batch, from lease to its last report.

Keeps the lease alive on connections of its own, brings the engine to the announced weights, runs
an episode for every task at once, and reports each group as soon as it is done. Whatever happens,
tasks that were not reported are given back, unless the lease is lost. Started by `worker.py`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from enum import StrEnum

from etude_client import AsyncEtudeClient
from etude_client.errors import EtudeError, LeaseNotFound, LeaseSuperseded
from etude_client.json_logs import about
from etude_client.tracing import span, version_span
from etude_proto.v1 import Lease, PromptBatch, PromptItem, ReleaseRequest, Run, RunMode

from .engines.base import EngineError, EngineUnavailable, WeightsRefused
from .episode import Episodes, Terms
from .lengths import LengthBook
from .metrics import RolloutMetrics
from .outbox import Delivered, Outbox, Sender
from .spans import Marker, reward_weights
from .status import WorkerStatus
from .weights.disk import WeightsMissing
from .weights.loader import Announced, WeightLoader
from .weights.parity import ParityError

_log = logging.getLogger(__name__)

FLUSH_S = 2.0
"""Time for reports that are under way when a batch is cut short (our choice)."""


class BatchEnd(StrEnum):
    """How a prompt batch ended."""

    DONE = "done"
    LOST = "lost"
    """The lease was superseded or expired; the sampler hands the tasks out again."""
    NO_WEIGHTS = "no_weights"
    """The announced weights could not be loaded; given back."""
    NO_ENGINE = "no_engine"
    """The engine went away; what was not reported is given back."""
    CUT_SHORT = "cut_short"
    """The worker stops; what was not reported is given back."""
    STALE = "stale"
    """The policy moved on past the run's staleness bound; what was not reported is given back."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every batch of a worker is made with."""

    client: AsyncEtudeClient
    run: Run
    episodes: Episodes
    loader: WeightLoader
    sender: Sender
    heartbeat_fraction: float
    status: WorkerStatus
    metrics: RolloutMetrics
    marker: Marker
    """Says in trajectories what their tokens were judged by."""
    lengths: LengthBook = field(default_factory=LengthBook)
    """What to start first."""


class BatchWork:
    """The work on one leased batch."""

    def __init__(self, shop: Workshop, batch: PromptBatch, lease: Lease) -> None:
        self._shop = shop
        self._batch = batch
        self._lease = lease
        self._outbox = Outbox(
            shop.client,
            lease,
            shop.sender,
            with_tokens=shop.run.mode is RunMode.TRAINING,
            finish=shop.marker.of(batch),
            on_delivered=self._on_delivered,
        )
        self._cut = asyncio.Event()
        self._cut_end = BatchEnd.CUT_SHORT
        self._began_at: int | None = None
        """Policy version of the first tokens; null before there are any."""

    def cut_short(self) -> None:
        """Stop generating; `run` returns when the rest is given back.

        Cancelling `run` instead would cut its giving back as well, and before its first step it
        would not even begin: the lease would be nobody's until it expires.
        """
        self._cut.set()

    def hear(self, policy_version: int) -> None:
        """The run is at this version now. Stop generating what could not be trained on any more:
        the sampler purges groups whose oldest token is staler than the run allows."""
        run = self._shop.run
        if run.mode is not RunMode.TRAINING or self._began_at is None or self._cut.is_set():
            return
        if policy_version - self._began_at > run.limits.max_staleness:
            _log.info(
                "batch.stale",
                extra={
                    "lease": self._lease.id,
                    "began_at": self._began_at,
                    "policy_version": policy_version,
                },
            )
            self._cut_end = BatchEnd.STALE
            self._cut.set()

    async def run(self) -> BatchEnd:
        """Work until every group is delivered or the rest is given back.

        Raises:
            ParityError: the engine must not generate any more; the lease was given back.
        """
        batch, run_id, lease_id = self._batch, self._shop.run.id, self._lease.id
        with (
            about(lease=lease_id),
            version_span(
                "prompt batch",
                run_id,
                batch.policy_version,
                lease=lease_id,
                num_tasks=len(batch.items),
            ) as whole,
        ):
            end = await self._run_to_its_end()
            whole.set_attribute("etude.end", end.value)
        return end

    async def _run_to_its_end(self) -> BatchEnd:
        end = self._cut_end
        try:
            end = await self._run_until_cut()
        finally:
            # Also when cut short: reports under way are finished, the rest is given back.
            await self._outbox.flush(None if end is BatchEnd.DONE else FLUSH_S)
            num_left = len(self._batch.items) - self._outbox.num_settled
            if end is not BatchEnd.LOST and num_left > 0:
                self._shop.metrics.given_back.labels(end.value).inc(num_left)
                await self._release()
            self._shop.metrics.leases.labels(end.value).inc()
        return end

    async def _run_until_cut(self) -> BatchEnd:
        work = asyncio.create_task(self._run_leased(), name=f"lease {self._lease.id}")
        cut = asyncio.create_task(self._cut.wait())
        try:
            await asyncio.wait({work, cut}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut.cancel()
            work.cancel()
            await asyncio.wait({work})
        return self._cut_end if work.cancelled() else work.result()

    async def _run_leased(self) -> BatchEnd:
        shop, lease = self._shop, self._lease
        every_s = lease.ttl_s * shop.heartbeat_fraction
        try:
            async with shop.client.heartbeat(lease, every=every_s):
                await self._load_weights()
                await self._generate()
                await self._outbox.flush()
        except (LeaseSuperseded, LeaseNotFound) as error:
            # A beat that overtakes the last report finds the lease settled: not a loss.
            if self._outbox.num_settled == len(self._batch.items):
                return BatchEnd.DONE
            _log.warning("lease.lost", extra={"lease": lease.id, "detail": error})
            return BatchEnd.LOST
        except (WeightsMissing, WeightsRefused) as error:
            self._weights_failed(error)
            return BatchEnd.NO_WEIGHTS
        except EngineError as error:
            shop.status.last_error = str(error)
            _log.warning("engine.failed", extra={"lease": lease.id, "detail": error})
            return BatchEnd.NO_ENGINE
        return BatchEnd.DONE

    async def _load_weights(self) -> None:
        batch, status = self._batch, self._shop.status
        announced = Announced(self._lease.fence, batch.policy_version, batch.weights_uri)
        status.batches_loading += 1
        try:
            with span("load weights", lease=self._lease.id):
                await self._shop.loader.ensure(announced)
        except ParityError as error:
            self._shop.metrics.load_failures.labels("parity").inc()
            status.last_error = str(error)
            raise
        finally:
            status.batches_loading -= 1

    async def _generate(self) -> None:
        terms = Terms(
            run_seed=self._shop.run.seed,
            reward=self._batch.reward,
            component_weights=reward_weights(self._batch),
            policy_version=self._batch.policy_version,
            wants_completions=self._batch.wants_completions,
        )
        items = self._batch.items
        order = self._shop.lengths.longest_first([(i.task.id, _prompt_chars(i)) for i in items])
        self._began_at = self._shop.loader.version
        try:
            async with asyncio.TaskGroup() as group:
                for item in (items[index] for index in order):
                    group.create_task(self._episode(item, terms), name=f"episode {item.task.id}")
        except* EngineUnavailable as errors:
            raise EngineUnavailable(str(errors.exceptions[0])) from errors

    async def _episode(self, item: PromptItem, terms: Terms) -> None:
        shop = self._shop
        shop.status.begin_group()
        try:
            with span("generate", lease=self._lease.id, task=item.task.id):
                group = await shop.episodes.run(item, terms)
        finally:
            shop.status.end_group()
        lengths = [outcome.num_tokens for outcome in group.outcomes]
        shop.lengths.learn(item.task.id, _prompt_chars(item), lengths)
        shop.status.seconds["score"] += group.score_s
        shop.metrics.generate_seconds.observe(group.generate_s)
        shop.metrics.score_seconds.observe(group.score_s)
        shop.metrics.count_outcomes(group.outcomes)
        shop.status.count_group(list(group.outcomes))
        shop.status.begin_report()
        self._outbox.post(group)

    def _on_delivered(self, delivered: Delivered) -> None:
        self._shop.status.end_report()
        self._shop.status.deliveries[delivered.delivery.value] += 1
        self._shop.metrics.count_delivery(delivered)

    def _weights_failed(self, error: WeightsMissing | WeightsRefused) -> None:
        reason = "missing" if isinstance(error, WeightsMissing) else "refused"
        self._shop.metrics.load_failures.labels(reason).inc()
        self._shop.status.last_error = str(error)
        _log.error(f"weights.{reason}", extra={"lease": self._lease.id, "detail": error})

    async def _release(self) -> None:
        request = ReleaseRequest(fence=self._lease.fence)
        try:
            async with asyncio.timeout(FLUSH_S):
                released = await self._shop.client.release_lease(self._lease.id, request)
        except (EtudeError, TimeoutError) as error:
            _log.warning("lease.not_released", extra={"lease": self._lease.id, "detail": error})
        else:
            _log.info(
                "lease.released",
                extra={"lease": self._lease.id, "num_tasks": released.num_released},
            )


def _prompt_chars(item: PromptItem) -> int:
    """Size of what is shown, by the task's messages."""
    return sum(len(message.content) for message in item.task.messages)
