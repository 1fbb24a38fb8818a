"""Settle: the ack of a checkpoint, and the way back to the version that the run announces.

The run's `(policy_version, weights_uri)` is the truth; a checkpoint becomes it by its ack. See
docs/adr/0010-trainer-ack.md for every place where a trainer can be killed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from etude_client import EtudeClient
from etude_client.errors import (
    EtudeError,
    IllegalTransition,
    LeaseNotFound,
    LeaseSuperseded,
    VersionConflict,
)
from etude_proto.v1 import AckReceipt, AckRequest, CheckpointMark, Run

from ..checkpoint import Checkpoint, CheckpointStore, Target
from ..errors import CheckpointError, LeaseLost, Stopped, WeightsUnknown
from ..parallel.team import Team
from ..status import StatusBoard
from ..stop import StopSignal
from ..validation import Validation
from ..weights import WeightChannel
from ..weights.disk import below, path_of
from .fetch import insist

logger = logging.getLogger(__name__)

REFUSED: Final[tuple[type[EtudeError], ...]] = (
    LeaseSuperseded,
    LeaseNotFound,
    VersionConflict,
    IllegalTransition,
)
"""Answers that say: this batch is not, or no longer, yours to settle."""

LOST: Final[tuple[type[Exception], ...]] = (*REFUSED, LeaseLost)
"""The same, and our own word for it."""

UNSETTLED: Final[tuple[type[Exception], ...]] = (*LOST, Stopped)
"""What leaves a checkpoint pending, to be settled by the next start."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands: the announced version that it equals."""

    policy_version: int
    weights_uri: str | None

    @classmethod
    def of_run(cls, run: Run) -> Standing:
        """What the run announces."""
        return cls(run.policy_version, run.weights_uri)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint | Target) -> Standing:
        """What the checkpoint would be, once acked."""
        return cls(checkpoint.state.policy_version, checkpoint.state.weights_uri)


@dataclass(frozen=True, slots=True)
class Site:
    """What settling works with."""

    client: EtudeClient
    run_id: str
    store: CheckpointStore
    channel: WeightChannel
    board: StatusBoard
    stop: StopSignal
    model_dir: Path
    weights_root: Path
    """Announced weights are read strictly below it."""
    validation: Validation
    """What evaluations found."""

    def announced(self) -> Run:
        """The run as it is now."""
        return insist(lambda: self.client.get_run(self.run_id), board=self.board, stop=self.stop)


def acknowledge(site: Site, checkpoint: Checkpoint) -> AckReceipt:
    """Send the ack of a published checkpoint until the sampler answers; safe to repeat.

    The same body under the same key, also after a restart: a receipt that was lost on the way is
    given again.

    Raises:
        LeaseLost: the batch is not ours any more.
        Stopped: a stop was asked for while the sampler was away.
    """
    state = checkpoint.state
    request = AckRequest(
        fence=state.fence,
        policy_version=state.policy_version,
        weights_uri=state.weights_uri,
        metrics=state.metrics,
        checkpoint=CheckpointMark() if state.takes_curriculum else None,
    )

    def call() -> AckReceipt:
        return site.client.ack_training_batch(
            state.lease_id, request, idempotency_key=f"ack-{state.lease_id}"
        )

    try:
        receipt = insist(call, board=site.board, stop=site.stop)
    except REFUSED as error:
        raise LeaseLost(f"{state.lease_id}: {error}") from error
    checkpoint.mark_acked(receipt)
    return receipt


def settle_pending(site: Site) -> list[Checkpoint]:
    """Ack what a killed trainer had saved but not acked; returns the checkpoints that now count.

    One whose lease is lost is compared with the run: it may have been acked without our hearing
    of it. Otherwise its step never counted, and it goes, with its weights if they are newer than
    anything announced.
    """
    settled: list[Checkpoint] = []
    for checkpoint in site.store.pending():
        state = checkpoint.state
        site.channel.publish(checkpoint)
        try:
            acknowledge(site, checkpoint)
        except LeaseLost as error:
            run = site.announced()
            if Standing.of_run(run) == Standing.of_checkpoint(checkpoint):
                checkpoint.mark_acked(None)
            else:
                fields = {"policy_version": state.policy_version, "error": str(error)}
                logger.warning("checkpoint.discarded", extra=fields)
                if run.policy_version < state.policy_version:
                    site.channel.withdraw(checkpoint)
                site.store.discard(checkpoint)
                continue
        logger.info("checkpoint.acked_late", extra={"policy_version": state.policy_version})
        settled.append(checkpoint)
    return settled


def return_to_announced(site: Site, team: Team, *, is_fresh: bool) -> Standing:
    """Make the model what the run announces: from our checkpoint, else from the weights alone.

    Without our checkpoint the optimizer starts with empty moments, and that is logged.

    Args:
        site: where the run stands.
        team: the learner of every rank.
        is_fresh: the policy is untouched since it was loaded from the model directory.

    Raises:
        WeightsUnknown: the announced weights are neither ours nor readable here.
    """
    standing = Standing.of_run(site.announced())
    checkpoint = site.store.find(standing.policy_version, standing.weights_uri)
    team.reset()
    if checkpoint is not None:
        site.channel.publish(checkpoint)  # a restored version's weights may have been pruned
        team.load(checkpoint)
        checkpoint.mark_acked(None) if not checkpoint.is_acked else None
        return standing
    uri = standing.weights_uri
    if uri is not None and path_of(uri).resolve() != site.model_dir.resolve():
        try:
            team.load_weights(below(site.weights_root, uri))
        except CheckpointError as error:
            raise WeightsUnknown(
                f"run {site.run_id} is at version {standing.policy_version} with weights {uri!r}, "
                f"which cannot be read here: {error}"
            ) from error
        logger.warning("weights.adopted", extra={"uri": uri, "optimizer": "empty"})
    elif standing.policy_version > 0:
        raise WeightsUnknown(
            f"run {site.run_id} is at version {standing.policy_version}, but announces no weights "
            "of its own"
        )
    elif not is_fresh:
        team.reload(site.model_dir)
    return standing
