"""Training batches: ready groups, leased by a trainer and settled by an ack.

On the wire a training batch is one binary frame (`etude_proto.cargo.pack_frame`): the manifest as
JSON, then the groups' safetensors bodies, unparsed.
"""

from __future__ import annotations

from pydantic import Field

from .base import Fence, Id, Name, Request, Response, Text, Version
from .batches import DegradedReason, Lease
from .marks import CheckpointMark


class TrainingBatchRequest(Request):
    """Lease ready groups."""

    trainer: Name
    num_groups: int | None = Field(default=None, ge=1, le=4096)
    """Groups wanted; default: the run's B."""
    wait_s: float = Field(default=0.0, ge=0.0, le=30.0)
    """Long poll: wait so long for a full batch."""
    ttl_s: float | None = Field(default=None, ge=0.2, le=7200.0)


class CargoRef(Response):
    """Where one group's safetensors body lies in the frame."""

    task_id: Id
    ordinal: int
    lease_id: Id
    """The prompt lease under which it was rolled out."""
    apply_seq: int
    min_policy_version: Version
    lane: str
    offset: int
    """Bytes from the end of the manifest."""
    num_bytes: int
    sha256: str
    value: float | None = None
    """x, by which the run's bank ranks the group; null in a run without one."""
    num_replays: int = 0
    """0, or its first, second ... time back from the bank: it was trained on before."""


class TrainingBatch(Response):
    """The manifest of a training batch; `lease` is null when there are no groups."""

    lease: Lease | None
    groups: list[CargoRef]
    degraded: bool
    degraded_reason: DegradedReason | None
    policy_version: Version
    """The run's version now; the ack of this batch announces this plus one."""
    num_groups_drawn: int
    """Groups drawn since the last training batch: the cost of this one."""


class AckRequest(Request):
    """The optimizer step is done and saved: settle the batch and announce the version."""

    fence: Fence
    policy_version: Version
    """The version that the step produced: the run's version plus one."""
    weights_uri: Text = Field(min_length=1)
    metrics: dict[Text, float] = Field(default_factory=dict, max_length=64)
    """Scalars of the step, kept in the history (loss, tokens per second, ...)."""
    checkpoint: CheckpointMark | None = None
    """Take a curriculum checkpoint of this version, in the same transaction."""


class AckReceipt(Response):
    """The version is announced and mastery is folded."""

    run_id: Id
    policy_version: Version
    num_groups: int
    """Groups folded into mastery with this version."""
    component_weights: dict[str, float]
    checkpoint_id: Id | None = None
    """The curriculum checkpoint of this version, if one was taken with it."""


class PolicyVersionRequest(Request):
    """Announce a version in a curriculum-only run."""

    policy_version: Version
    weights_uri: Text | None = None
    metrics: dict[Text, float] = Field(default_factory=dict, max_length=64)
    checkpoint: CheckpointMark | None = None
    """Take a curriculum checkpoint of this version, in the same transaction."""


class Prediction(Request):
    """A value prediction for one task."""

    task_id: Id
    value: float = Field(ge=0.0, le=1.0)
    """Predicted probability of success."""


class PredictionsRequest(Request):
    """Predictions of a trainer or a side model (PCL, cold start)."""

    predictions: list[Prediction] = Field(min_length=1, max_length=4096)
    policy_version: Version


class PredictionsReceipt(Response):
    """How many predictions were stored."""

    num_stored: int
