"""Rewind: a trainer that lost its newest steps takes its run back to the newest one it still has.

Only on a start, after pending acks are settled (`settle.py`): model, optimizer and curriculum then
stand at the same step. A trainer without any checkpoint of the run has lost nothing and follows
the announced weights.
"""

from __future__ import annotations

import hashlib
import logging

from etude_client.errors import CheckpointNotFound, IllegalTransition
from etude_client.paging import all_items
from etude_proto.v1 import Checkpoint as CurriculumCheckpoint
from etude_proto.v1 import RestoreRequest, Run

from ..checkpoint import Checkpoint
from ..errors import CannotResume
from .fetch import insist
from .settle import Site

logger = logging.getLogger(__name__)


def rewind(site: Site) -> CurriculumCheckpoint | None:
    """Restore the curriculum of the newest step that is here, if the run is ahead of it.

    Returns:
        The curriculum checkpoint that the run was taken back to; None where nothing was to be done.

    Raises:
        CannotResume: another trainer holds a batch of the run, or no step that is here has a
            curriculum checkpoint.
    """
    ours = site.store.all()
    run = site.announced()
    if not ours or site.store.find(run.policy_version, run.weights_uri) is not None:
        return None
    newest = ours[-1].state.policy_version
    logger.warning(
        "trainer.behind", extra={"policy_version": run.policy_version, "newest_here": newest}
    )
    view = insist(lambda: site.client.get_curriculum(site.run_id), board=site.board, stop=site.stop)
    if view.counts.num_training_leases:
        raise CannotResume(
            f"{_behind(run, newest)}, and another trainer holds a training batch of it; stop that "
            f'one, or set resume = "continue" to follow it from its published weights'
        )
    pair = _common(ours, kept_curricula(site))
    if pair is None:
        raise CannotResume(
            f"{_behind(run, newest)}, and the sampler keeps no curriculum checkpoint of a step "
            "that is here; bring back the lost folder, or take the run back yourself (`etude runs "
            f'restore {run.name}`), or set resume = "continue" to go on from the published '
            "weights with an empty optimizer"
        )
    checkpoint, found = pair
    site.channel.publish(checkpoint)
    _restore(site, run, found)
    fields = {"from_version": run.policy_version, "policy_version": found.policy_version}
    logger.warning("run.restored", extra={**fields, "checkpoint": found.id})
    return found


def _behind(run: Run, newest: int) -> str:
    return (
        f"run {run.name!r} is at version {run.policy_version}, but the newest model checkpoint "
        f"here is of version {newest}"
    )


def kept_curricula(site: Site) -> list[CurriculumCheckpoint]:
    """Curriculum checkpoints of the run that can be restored."""

    def read() -> list[CurriculumCheckpoint]:
        pages = all_items(lambda at: site.client.list_checkpoints(site.run_id, cursor=at))
        return [one for one in pages if one.discarded_at is None]

    return insist(read, board=site.board, stop=site.stop)


def _common(
    ours: list[Checkpoint], kept: list[CurriculumCheckpoint]
) -> tuple[Checkpoint, CurriculumCheckpoint] | None:
    """The newest step of which both halves are there.

    A version may have several curriculum checkpoints: the first was taken with its ack.
    """
    by_step: dict[tuple[int, str | None], CurriculumCheckpoint] = {}
    for one in kept:
        by_step.setdefault((one.policy_version, one.weights_uri), one)
    for checkpoint in reversed(ours):
        found = by_step.get((checkpoint.state.policy_version, checkpoint.state.weights_uri))
        if found is not None:
            return checkpoint, found
    return None


def _restore(site: Site, run: Run, target: CurriculumCheckpoint) -> None:
    """Restore; the same key for the same loss, so that a killed start does it once."""
    loss = f"{target.id} {run.epoch} {run.policy_version} {run.weights_uri}"
    key = f"resume-{hashlib.sha256(loss.encode()).hexdigest()[:32]}"
    request = RestoreRequest(checkpoint_id=target.id)
    try:
        insist(
            lambda: site.client.restore_run(site.run_id, request, idempotency_key=key),
            board=site.board,
            stop=site.stop,
        )
    except (CheckpointNotFound, IllegalTransition) as error:
        raise CannotResume(f"curriculum checkpoint {target.id} is gone: {error}") from error
