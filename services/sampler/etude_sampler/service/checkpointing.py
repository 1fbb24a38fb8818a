"""Which checkpoint a call or a version takes: pure. `versions` and `travel` act on it."""

from __future__ import annotations

from etude_proto.v1 import CheckpointMark

from ..ports.catalog import RunRow
from ..ports.checkpoints import CheckpointPlan
from .context import stored_parts
from .identifiers import checkpoint_id_of


def checkpoint_plan(
    run: RunRow, mark: CheckpointMark, *, call: str, policy_version: int | None = None
) -> CheckpointPlan:
    """A checkpoint of a run, with the retention of its limits.

    Args:
        run: the run.
        mark: label and pin.
        call: what makes this call the same as an earlier one.
        policy_version: the version that the run must be at.
    """
    return CheckpointPlan(
        id=checkpoint_id_of(f"{run.id} {call}"),
        label=mark.label,
        pinned=mark.pinned,
        shape=stored_parts(run).shape,
        keep_last=run.spec.limits.checkpoint_keep_last,
        keep_every=run.spec.limits.checkpoint_keep_every,
        policy_version=policy_version,
    )


def plan_with_version(
    run: RunRow, mark: CheckpointMark | None, *, version: int, call: str
) -> CheckpointPlan | None:
    """The checkpoint that goes with a version: asked for, or due by the run's limits."""
    every = run.spec.limits.checkpoint_every_versions
    if mark is None and (not every or version % every):
        return None
    return checkpoint_plan(run, mark or CheckpointMark(), call=f"version {version} {call}")
