"""Checkpoints: the curriculum's half of a trainer's checkpoint, and the way back to it.

`facade.py` calls both on rank 0.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TypedDict

from etude_proto.v1 import CheckpointCreate, RestoreRequest

from ..errors import CheckpointNotFound, EtudeError, IllegalTransition
from .away import is_away
from .entries import Entry, PackedEntry
from .live import Live

logger = logging.getLogger("etude_client")

FORMAT = 1
RETRY_S = 1.0
"""Seconds between two attempts to take a checkpoint (our choice)."""


class CurriculumState(TypedDict):
    """The curriculum at a step, as JSON; a trainer keeps it with its model."""

    format: int
    run_id: str
    policy_version: int
    checkpoint_id: str | None
    """Curriculum checkpoint of this step; None if the sampler was away."""
    pending: list[PackedEntry]
    """What was not delivered; empty if there is a checkpoint."""


def save(live: Live, version: int, patience_s: float) -> CurriculumState:
    """The state now; with a curriculum checkpoint, unless the sampler stays away for long.

    Args:
        patience_s: how long that is.
    """
    request = CheckpointCreate(label=f"step {version}", policy_version=version)
    checkpoint_id = None
    until_s = time.monotonic() + patience_s
    while checkpoint_id is None and live.outbox.flush(max(0.0, until_s - time.monotonic())):
        try:
            checkpoint_id = live.client.create_checkpoint(live.run_id, request).id
        except EtudeError as error:
            if not is_away(error):
                raise
            live.outage.begin(error)
            if time.monotonic() + RETRY_S > until_s:
                break
            time.sleep(RETRY_S)
    if checkpoint_id is None:
        logger.warning("step %d is saved without a curriculum checkpoint", version)
    return CurriculumState(
        format=FORMAT,
        run_id=live.run_id,
        policy_version=version,
        checkpoint_id=checkpoint_id,
        pending=live.outbox.pending(),
    )


def restore(live: Live, state: CurriculumState) -> int:
    """Take the run back; the policy version that it is at then.

    Raises:
        ValueError: the state is of another run or format, or its checkpoint is gone.
    """
    if state.get("format") != FORMAT:
        raise ValueError(f"the curriculum's state has format {state.get('format')!r}, not {FORMAT}")
    if state["run_id"] != live.run_id:
        raise ValueError(
            f"the checkpoint belongs to {state['run_id']}, this curriculum to {live.run_id}: open "
            "that run, or fork it"
        )
    for lease in live.keeper.open():
        live.keeper.drop(lease.id)
    live.outbox.discard()
    run = live.client.get_run(live.run_id)
    version = state["policy_version"]
    checkpoint_id = state["checkpoint_id"]
    if checkpoint_id is not None:
        # The same key for the same loss: a trainer killed here restores once.
        loss = f"{checkpoint_id} {run.epoch} {run.policy_version}"
        key = f"resume-{hashlib.sha256(loss.encode()).hexdigest()[:32]}"
        request = RestoreRequest(checkpoint_id=checkpoint_id)
        try:
            live.client.restore_run(live.run_id, request, idempotency_key=key)
        except (CheckpointNotFound, IllegalTransition) as error:
            raise ValueError(
                f"the run {run.name!r} has no curriculum checkpoint of step {version} any more "
                f"({error}): raise its limit checkpoint_keep_last, or pin what you may return to"
            ) from error
        logger.warning("the run %r is back at step %d", run.name, version)
        return version
    for packed in state["pending"]:
        live.outbox.put(Entry.unpack(packed))
    live.outbox.flush()
    now = live.client.get_run(live.run_id).policy_version
    if now != version:
        raise ValueError(
            f"the run {run.name!r} went on to step {now} after step {version} was saved without a "
            "curriculum checkpoint: restore it by hand (`etude runs restore`), or start from "
            "another checkpoint"
        )
    return version
