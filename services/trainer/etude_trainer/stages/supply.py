"""Supply: the next training batch, leased and decoded, if wanted while the current one trains.

A batch that waits here is held: its lease is noted on disk and kept alive by heartbeats, and given
back when the trainer stops or goes back to another version. One at most is held ahead. `fetch.py`
makes the calls, `loop.py` takes the batches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from etude_client.call import TrainingFrame
from etude_client.heartbeat import Heartbeat
from etude_client.json_logs import about, within
from etude_client.tracing import version_span
from etude_proto.v1 import Lease, TrainingBatch, TrainingBatchRequest

from ..batch import DecodedBatch, Group, TokenSequence, decode_batch
from ..errors import LeaseLost
from .fetch import LeaseNote, fetch, give_back
from .settle import Site, Standing

logger = logging.getLogger(__name__)

IDLE_S: Final = 0.5
"""Pause after an empty answer that came at once (a paused run)."""


@dataclass(slots=True)
class Work:
    """A training batch in hand."""

    frame: TrainingFrame
    batch: DecodedBatch
    beat: Heartbeat
    """Keeps the lease alive until `rest`."""
    is_saved: bool = False
    """A checkpoint was made of it, and its ack decides."""

    @property
    def manifest(self) -> TrainingBatch:
        """What the batch holds."""
        return self.frame.manifest

    @property
    def lease(self) -> Lease:
        """The claim on it."""
        lease = self.frame.manifest.lease
        assert lease is not None
        return lease

    @contextmanager
    def span(self, name: str, run_id: str) -> Iterator[None]:
        """What is done with it: a span of its version, linked to those of older groups, and the
        lease in every line of the log."""
        traced = version_span(
            name,
            run_id,
            self.manifest.policy_version,
            links={ref.min_policy_version for ref in self.manifest.groups},
            lease=self.lease.id,
            num_groups=len(self.manifest.groups),
        )
        with about(lease=self.lease.id), traced:
            yield

    @property
    def oldest_version(self) -> int:
        """Policy version of its oldest token."""
        return min(ref.min_policy_version for ref in self.manifest.groups)

    def rest(self) -> None:
        """End the heartbeats: before the ack, which extends the lease itself.

        Raises:
            EtudeError: the lease was lost.
        """
        self.beat.__exit__(None, None, None)

    def drop(self) -> None:
        """End the heartbeats, whatever became of the lease."""
        self.beat.__exit__(RuntimeError, None, None)

    def age(self, policy_version: int) -> None:
        """Be the batch as the trainer of a later version sees it: its groups are older."""
        lag = policy_version - self.manifest.policy_version
        if lag == 0:
            return
        groups = tuple(_older(group, lag) for group in self.batch.groups)
        manifest = self.manifest.model_copy(update={"policy_version": policy_version})
        self.frame = replace(self.frame, manifest=manifest)
        self.batch = replace(self.batch, groups=groups)


def _older(group: Group, lag: int) -> Group:
    """The group, and each of its tokens, by so many versions."""
    sequences = tuple(None if one is None else _older_tokens(one, lag) for one in group.sequences)
    return replace(group, staleness=group.staleness + lag, sequences=sequences)


def _older_tokens(sequence: TokenSequence, lag: int) -> TokenSequence:
    if sequence.lag_T is None:
        return sequence
    return replace(sequence, lag_T=sequence.lag_T + np.where(sequence.trained_T, np.int32(lag), 0))


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a batch that was leased ahead may be like."""

    num_versions: int
    """Versions that may pass between its lease and its training: 0 or 1."""
    max_staleness: int
    """The run's bound, which it must meet when it is trained on."""


class Supply:
    """Leases and decodes batches, one ahead if asked to."""

    def __init__(
        self,
        site: Site,
        note: LeaseNote,
        request: TrainingBatchRequest,
        *,
        vocab_size: int,
        ahead: Ahead,
    ) -> None:
        self.ahead = ahead
        self._site = site
        self._note = note
        self._request = request
        self._vocab_size = vocab_size
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="supply")
        self._next: Future[Work | None] | None = None
        self._is_wanted = threading.Event()
        self._poll_ahead = within(self._poll_until_wanted)

    def take(self) -> Work | None:
        """The next batch; null where there is none yet: ask again.

        Raises:
            Stopped, ApiError: see `fetch.insist`.
            ModelMismatch: the batch is of another model; it is given back.
        """
        if self._next is None:
            work = self._poll()
            if work is None:
                self._site.stop.wait(IDLE_S)
            return work
        wait([self._next], timeout=IDLE_S)
        if not self._next.done():
            return None
        held, self._next = self._next, None
        return held.result()

    def begin(self) -> None:
        """Lease and decode the next batch in a thread."""
        if self._next is None:
            self._is_wanted.set()
            self._next = self._thread.submit(self._poll_ahead)

    def accepts(self, work: Work, standing: Standing | None, *, follows_ack: bool) -> bool:
        """Whether to train on a batch; one that grew too stale while it was held is given back.

        Args:
            work: the batch; it ages to the version that it is trained at.
            standing: where the model stands.
            follows_ack: the run must stand there already.

        Raises:
            LeaseLost: the batch, or the run, does not follow from what the model is.
        """
        assert standing is not None
        if follows_ack:
            announced = Standing.of_run(self._site.announced())
            if announced != standing:
                raise LeaseLost(f"the run went on to {announced} while we stood at {standing}")
        version = work.manifest.policy_version
        if not 0 <= standing.policy_version - version <= self.ahead.num_versions:
            raise LeaseLost(f"a batch of version {version} while we stood at {standing}")
        work.age(standing.policy_version)
        is_old = standing.policy_version - work.oldest_version > self.ahead.max_staleness
        if is_old and self.ahead.num_versions:
            logger.warning("batch.too_stale", extra={"lease": work.lease.id})
            self.release(work)
            return False
        return True

    def give_back(self) -> None:
        """Give back what is held ahead, and stop asking for it."""
        self._is_wanted.clear()
        if self._next is None:
            return
        held, self._next = self._next, None
        error = held.exception()
        if error is not None:
            logger.warning("supply.ended", extra={"error": str(error)})
            return
        work = held.result()
        if work is not None:
            self.release(work)

    def release(self, work: Work) -> None:
        """Give a batch back untrained; harmless if it is lost or settled."""
        work.drop()
        give_back(self._site.client, work.lease)
        self._note.remove(work.lease.id)

    def close(self) -> None:
        """Give back what is held, and end the thread."""
        self.give_back()
        self._thread.shutdown()

    def _poll_until_wanted(self) -> Work | None:
        while self._is_wanted.is_set():
            self._site.stop.check()
            work = self._poll()
            if work is not None:
                return work
            self._site.stop.wait(IDLE_S)
        return None

    def _poll(self) -> Work | None:
        site = self._site
        version = site.board.read().policy_version or 0
        with version_span("lease training batch", site.run_id, version) as span:
            frame = fetch(site.client, site.run_id, self._request, board=site.board, stop=site.stop)
            if frame is None or frame.manifest.lease is None:
                return None
            span.set_attribute("etude.lease", frame.manifest.lease.id)
        lease = frame.manifest.lease
        self._note.add(lease)
        beat = site.client.heartbeat(lease, kind="training").__enter__()
        try:
            batch = decode_batch(frame.manifest, frame.bodies, vocab_size=self._vocab_size)
        except BaseException:
            self.release(Work(frame, DecodedBatch((), ()), beat))
            raise
        for reason in batch.refused:
            logger.error("group.refused", extra={"reason": reason})
        return Work(frame, batch, beat)
