"""The loop: fetch, train, checkpoint, publish, ack; read it from top to bottom.

Runs in a thread of its own (`service.py`). A step counts when its ack is taken: until then the
checkpoint is pending, and whatever kills the trainer, its successor either acks that checkpoint or
goes back to the announced version (docs/adr/0010-trainer-ack.md).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from etude_client.call import TrainingFrame
from etude_client.heartbeat import Heartbeat
from etude_proto.v1 import Lease, TrainingBatchRequest

from .batch import decode_batch
from .checkpoint import Checkpoint
from .errors import LeaseLost, Stopped
from .journal import Journal
from .parallel.team import Team
from .stages.fetch import LeaseNote, fetch, give_back
from .stages.rewind import kept_curricula, rewind
from .stages.save import save_step
from .stages.settle import LOST, Site, Standing, acknowledge, return_to_announced, settle_pending
from .status import Stage

logger = logging.getLogger(__name__)

IDLE_S: Final = 0.5
"""Pause after an empty answer that came at once (a paused run)."""


@dataclass(slots=True)
class Trainer:
    """One trainer of one run."""

    site: Site
    team: Team
    note: LeaseNote
    journal: Journal
    request: TrainingBatchRequest
    max_steps: int | None
    standing: Standing | None = None
    num_steps: int = 0

    def run(self) -> None:
        """Train until `max_steps` or a stop; every other end is an exception."""
        try:
            self.recover(is_fresh=True)
            while self.max_steps is None or self.num_steps < self.max_steps:
                self.site.stop.check()
                self.step()
        except Stopped:
            logger.info("trainer.stopped", extra={"num_steps": self.num_steps})

    def step(self) -> None:
        """One training batch, or one empty poll."""
        site, board = self.site, self.site.board
        with board.during(Stage.FETCH):
            frame = fetch(site.client, site.run_id, self.request, board=board, stop=site.stop)
            if frame is None:
                site.stop.wait(IDLE_S)
                return
        lease = frame.manifest.lease
        assert lease is not None
        self.note.write(lease)
        checkpoint: Checkpoint | None = None
        try:
            self.check_standing(frame.manifest.policy_version)
            with site.client.heartbeat(lease, kind="training") as beat:
                checkpoint = self.train(frame, lease, beat)
                with board.during(Stage.PUBLISH):
                    site.channel.publish(checkpoint)
            with board.during(Stage.ACK):
                acknowledge(site, checkpoint)
        except LOST as error:
            logger.warning("lease.lost", extra={"lease": lease.id, "error": str(error)})
            board.update(num_rolled_back=board.read().num_rolled_back + 1)
            return self.recover()
        except BaseException:
            if checkpoint is None:
                give_back(site.client, lease)
                self.note.clear()
            raise
        self.conclude(checkpoint)

    def check_standing(self, batch_version: int) -> None:
        """Refuse to train on from a version that is not the announced one."""
        announced = Standing.of_run(self.site.announced())
        if announced != self.standing or batch_version != announced.policy_version:
            raise LeaseLost(f"the run went on to {announced} while we stood at {self.standing}")

    def train(self, frame: TrainingFrame, lease: Lease, beat: Heartbeat) -> Checkpoint:
        """Learn from a batch and write the checkpoint."""
        board, team = self.site.board, self.team
        vocab_size = team.learner.policy.vocab_size
        with board.during(Stage.TRAIN):
            batch = decode_batch(frame.manifest, frame.bodies, vocab_size=vocab_size)
            for reason in batch.refused:
                logger.error("group.refused", extra={"reason": reason})

            def progress(done: int, total: int) -> None:
                self.site.stop.check()
                beat.check()
                board.update(num_micro_batches_done=done, num_micro_batches=total)

            metrics = team.learn(frame.manifest, frame.bodies, batch.groups, progress)
        with board.during(Stage.CHECKPOINT):
            return save_step(self.site, team, frame=frame, batch=batch, metrics=metrics)

    def conclude(self, checkpoint: Checkpoint) -> None:
        """After the ack: stand at the new version, tell what happened, forget what is old."""
        state, board = checkpoint.state, self.site.board
        self.note.clear()
        self.num_steps += 1
        self.standing = Standing.of_checkpoint(checkpoint)
        self.journal.append(state, board.spent())
        board.finish_step(state.policy_version, self.num_steps, state.metrics)
        fields = {"policy_version": state.policy_version, "metrics": state.metrics}
        logger.info("step.done", extra=fields)
        keep = self.team.learner.config.publish.keep_checkpoints
        self.site.store.prune(announced=checkpoint, keep=keep)
        pinned = {one.weights_uri for one in kept_curricula(self.site) if one.pinned}
        self.site.channel.prune(announced_version=state.policy_version, keep=pinned)

    def recover(self, *, is_fresh: bool = False) -> None:
        """Settle what is pending, then stand where the run stands."""
        with self.site.board.during(Stage.RECOVER):
            settled = settle_pending(self.site)
            for checkpoint in settled:
                self.journal.append(checkpoint.state, {})
            lease = self.note.read()
            if lease is not None and lease.id not in {c.state.lease_id for c in settled}:
                give_back(self.site.client, lease)
            self.note.clear()
            if is_fresh and self.team.learner.config.resume == "exact":
                rewind(self.site)
            self.standing = return_to_announced(self.site, self.team, is_fresh=is_fresh)
        self.site.board.update(policy_version=self.standing.policy_version)
        logger.info("trainer.standing", extra={"policy_version": self.standing.policy_version})
