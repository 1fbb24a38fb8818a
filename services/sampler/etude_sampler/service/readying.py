"""An admitted group on its way into the ready queue: its place there, its entry in manifests.

Neighbours: `reports` settles with it, `training` hands the entry out, `banking` reads it again.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from etude_proto.v1 import CargoRef

from ..ports.races import READY_SCALE, Entering
from .context import RunContext
from .outcomes import oldest_version
from .reported import Reported


def with_group(
    context: RunContext,
    entering: Entering,
    reported: Reported,
    cargo: bytes,
    *,
    apply_seq: int,
    value: float | None,
) -> Entering:
    """The task's entry, with its group's place in the ready queue and in manifests.

    Args:
        context: the run.
        entering: the task's next stay in its lanes.
        reported: the report of this one group.
        cargo: the group's trajectories.
        apply_seq: the group's place in the ledger.
        value: what the group is worth to the run's bank; None without one.
    """
    group = reported.report.groups[0]
    version = oldest_version(group.attempts[-1].outcomes, otherwise=reported.lease_version)
    manifest = CargoRef(
        task_id=group.task_id,
        ordinal=entering.ordinal,
        lease_id=reported.lease_id,
        apply_seq=apply_seq,
        min_policy_version=version,
        lane=context.curriculum.lane_names[reported.drawn[0].lane],
        offset=0,
        num_bytes=len(cargo),
        sha256=hashlib.sha256(cargo).hexdigest(),
        value=value,
    )
    score = version * READY_SCALE + apply_seq % READY_SCALE
    return replace(entering, ready_score=str(score), manifest=manifest.model_dump_json().encode())
