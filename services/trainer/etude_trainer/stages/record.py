"""Record: what a step leaves behind once it counts: journal, live view, event files, log; and what
is too old to keep goes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..charts import Chart, tagged
from ..checkpoint import Checkpoint
from ..journal import Journal
from ..weights.disk import path_of
from .fetch import LeaseNote
from .rewind import kept_curricula
from .settle import Site

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Recorder:
    """Tells of the steps that count."""

    site: Site
    note: LeaseNote
    journal: Journal
    charts: Sequence[Chart]
    keep_checkpoints: int
    num_steps: int = 0
    """Steps of this process that counted."""

    def stand(self, policy_version: int) -> None:
        """The model stands at a version: nothing of later ones is shown any more."""
        self.note.clear()
        for chart in self.charts:
            chart.stand(policy_version)
        self.site.board.update(policy_version=policy_version)
        self.site.validation.stand(policy_version)
        self._look(policy_version)
        logger.info("trainer.standing", extra={"policy_version": policy_version})

    def late(self, settled: list[Checkpoint]) -> None:
        """Steps of a former process that count after all."""
        for checkpoint in settled:
            self._draw(checkpoint, {})

    def conclude(self, checkpoint: Checkpoint, seconds: dict[str, float]) -> None:
        """A step was acked: tell, and forget what is old."""
        state, site = checkpoint.state, self.site
        self.note.remove(state.lease_id)
        self.num_steps += 1
        self._draw(checkpoint, seconds)
        site.board.finish_step(state.policy_version, self.num_steps, state.metrics, seconds)
        about = {"lease": state.lease_id, "policy_version": state.policy_version}
        fields = {**about, "metrics": state.metrics}
        logger.info("step.done", extra=fields)
        site.store.prune(announced=checkpoint, keep=self.keep_checkpoints)
        self._look(state.policy_version)
        pinned = {one.weights_uri for one in kept_curricula(site) if one.pinned}
        pinned |= site.validation.awaited(path_of(state.weights_uri).parent)
        site.channel.prune(announced_version=state.policy_version, keep=pinned)

    def _look(self, policy_version: int) -> None:
        """Draw what evaluations of versions up to this one have found since the last look."""
        validation, board = self.site.validation, self.site.board
        for found in validation.new(policy_version):
            tag, version = validation.tag(found), found.policy_version
            for chart in self.charts:
                chart.add(version or 0, {tag: found.mean})
            fields = {"policy_version": version, "mean": found.mean, "measure": tag}
            logger.info("validation.found", extra=fields)
        board.update(validation=validation.newest)

    def _draw(self, checkpoint: Checkpoint, seconds: dict[str, float]) -> None:
        """Into journal and charts, unless they have it (an ack repeated after a kill)."""
        state = checkpoint.state
        if self.journal.append(state, seconds):
            for chart in self.charts:
                chart.add(state.policy_version, tagged(state.metrics, seconds))
