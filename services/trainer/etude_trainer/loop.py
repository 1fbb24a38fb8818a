"""The loop: fetch, train, checkpoint, publish, ack; read it from top to bottom.

Runs in a thread of its own (`service.py`), on rank 0 alone. A step counts when its ack is taken:
until then its checkpoint is pending, and whatever kills the trainer, its successor either acks
that checkpoint or goes back to the announced version (docs/adr/0010-trainer-ack.md).
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass

from .errors import Stopped
from .parallel.team import Team
from .stages.account import Account
from .stages.fetch import give_back_noted
from .stages.record import Recorder
from .stages.rewind import rewind
from .stages.save import prepare_step
from .stages.settle import LOST, UNSETTLED, Site, Standing, return_to_announced, settle_pending
from .stages.settling import Settling
from .stages.supply import Supply, Work
from .status import Stage

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Trainer:
    """One trainer of one run."""

    site: Site
    team: Team
    supply: Supply
    account: Account
    record: Recorder
    max_steps: int | None
    overlaps: bool
    standing: Standing | None = None
    """Where the model stands; the run stands there too once `settling` is done."""
    settling: Settling | None = None
    """The last step, until its ack is taken."""

    def run(self) -> None:
        """Train until `max_steps` or a stop; every other end is an exception."""
        with closing(self.supply):
            try:
                self.recover(is_fresh=True)
                while self.num_wanted() > 0 or self.settling is not None:
                    self.site.stop.check()
                    self.step()
            except Stopped:
                logger.info("trainer.stopped", extra={"num_steps": self.record.num_steps})
            finally:
                self.settle(may_fail=True)

    def num_wanted(self) -> float:
        """Steps to begin still."""
        begun = self.record.num_steps + (self.settling is not None)
        return float("inf") if self.max_steps is None else self.max_steps - begun

    def step(self) -> None:
        """One training batch, or a look whether there is one."""
        work: Work | None = None
        try:
            if self.settling is not None and (self.settling.is_done or self.num_wanted() <= 0):
                return self.settle()
            with self.site.board.during(Stage.FETCH, self.account.seconds):
                work = self.supply.take()
            if work is None:
                return
            if self.supply.accepts(work, self.standing, follows_ack=self.settling is None):
                self.train(work)
        except LOST as error:
            self.lose(work, error)
        except BaseException:
            self.drop(work)
            raise

    def train(self, work: Work) -> None:
        """Learn from a batch, and begin to settle the step when the one before it is settled."""
        site, board = self.site, self.site.board

        def progress(done: int, total: int) -> None:
            site.stop.check()
            work.beat.check()
            if self.settling is not None:
                self.settling.check()
            self.look_ahead()
            board.update(num_micro_batches_done=done, num_micro_batches=total)

        with work.span("step", site.run_id), board.during(Stage.TRAIN, self.account.seconds):
            learned = self.team.learn(work.manifest, work.frame.bodies, work.batch.groups, progress)
        self.settle()
        self.look_ahead()
        with board.during(Stage.CHECKPOINT, self.account.seconds):
            metrics = self.account.close_step(learned)
            step = prepare_step(site, self.team, work, metrics=metrics, copies=self.overlaps)
        self.settling = Settling(site, work, step, self.account.take_seconds())
        self.standing = Standing.of_checkpoint(step.target)
        if self.overlaps:
            self.settling.begin()
        else:
            self.settle()

    def look_ahead(self) -> None:
        """Lease the next batch once the last step is acked: it ages by one version at most."""
        is_acked = self.settling is None or self.settling.is_done
        if self.overlaps and is_acked and self.num_wanted() > 1:
            self.supply.begin()

    def settle(self, *, may_fail: bool = False) -> None:
        """Have the last step acked, and recorded; one that fails is pending until we recover."""
        settling, self.settling = self.settling, None
        try:
            if settling is not None:
                self.record.conclude(settling.finish(), settling.seconds)
        except UNSETTLED as error:
            if not may_fail:
                raise
            logger.warning("checkpoint.pending", extra={"error": str(error)})

    def lose(self, work: Work | None, error: Exception) -> None:
        """After a lost lease: let go of everything, stand where the run stands."""
        logger.warning("lease.lost", extra={"error": str(error)})
        self.settle(may_fail=True)
        board = self.site.board
        board.update(num_rolled_back=board.read().num_rolled_back + 1)
        self.drop(work)
        self.supply.give_back()
        self.recover()

    def drop(self, work: Work | None) -> None:
        """Give a batch back, unless a checkpoint decides about it."""
        if work is not None and not work.is_saved:
            self.supply.release(work)

    def recover(self, *, is_fresh: bool = False) -> None:
        """Settle what is pending, then stand where the run stands."""
        with self.site.board.during(Stage.RECOVER):
            settled = settle_pending(self.site)
            self.record.late(settled)
            ours = {checkpoint.state.lease_id for checkpoint in settled}
            give_back_noted(self.site.client, self.record.note, but=ours)
            if is_fresh and self.team.learner.config.resume == "exact":
                rewind(self.site)
            self.standing = return_to_announced(self.site, self.team, is_fresh=is_fresh)
        self.account.restart()
        self.record.stand(self.standing.policy_version)
