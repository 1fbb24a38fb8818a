"""Settling: a trained step's checkpoint, publication and ack, at once or beside the next step.

The order is that of docs/adr/0010-trainer-ack.md whatever the thread: the ack waits for the
checkpoint and the published weights, and the loop does not save a step before the one before it is
acked.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from etude_client.json_logs import within
from etude_client.tracing import end_version, span

from ..checkpoint import Checkpoint
from ..status import Stage
from .save import Prepared
from .settle import Site, acknowledge
from .supply import Work


class Settling:
    """One step on its way to count."""

    def __init__(self, site: Site, work: Work, step: Prepared, seconds: dict[str, float]) -> None:
        """Nothing happens before `begin` or `finish`."""
        self.seconds = seconds
        """Of the step, by stage; grows."""
        self._site = site
        self._work = work
        self._step = step
        self._future: Future[Checkpoint] | None = None

    @property
    def is_done(self) -> bool:
        """Whether `finish` would not wait."""
        return self._future is not None and self._future.done()

    def begin(self) -> None:
        """Go on in a thread."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="settling")
        self._future = thread.submit(within(self._run), is_shown=False)
        thread.shutdown(wait=False)

    def check(self) -> None:
        """Raise what `finish` would raise, if that is known already."""
        if self.is_done:
            assert self._future is not None
            self._future.result()

    def finish(self) -> Checkpoint:
        """The checkpoint, acked.

        Raises:
            LeaseLost, EtudeError: the batch is not ours any more.
            Stopped: a stop was asked for while the sampler was away; the checkpoint is pending.
        """
        return self._run(is_shown=True) if self._future is None else self._future.result()

    def _run(self, *, is_shown: bool) -> Checkpoint:
        work, run_id = self._work, self._site.run_id
        with work.span("settle", run_id):
            checkpoint = self._settle(is_shown=is_shown)
        seconds = sum(self.seconds.values())
        end_version(run_id, work.manifest.policy_version, seconds=seconds, lease=work.lease.id)
        return checkpoint

    def _settle(self, *, is_shown: bool) -> Checkpoint:
        site, board = self._site, self._site.board
        with span("checkpoint"), board.during(Stage.CHECKPOINT, self.seconds, is_shown=is_shown):
            checkpoint = self._step.write()
            self._work.is_saved = True
        with span("publish"), board.during(Stage.PUBLISH, self.seconds, is_shown=is_shown):
            site.channel.publish(checkpoint)
        self._work.rest()
        with span("ack"), board.during(Stage.ACK, self.seconds, is_shown=is_shown):
            acknowledge(site, checkpoint)
        return checkpoint
