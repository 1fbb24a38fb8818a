"""Answers of the trainer's own API that are not part of the sampler's contract."""

from __future__ import annotations

from etude_proto.v1.base import Response

from ..status import Stage


class StepStatus(Response):
    """The last step."""

    loss: float | None
    reward: float | None
    """Mean rule reward of the batch's rollouts."""
    success_share: float | None
    tokens_per_s: float | None
    """Tokens of the batch, prompts included, over the seconds of training."""
    learning_rate: float | None
    staleness: float | None
    """Mean age of the groups in versions."""
    clip_share: float | None
    """Share of tokens whose gradient the clip took away."""
    kl_rollout: float | None
    """KL of the trainer's policy to the rollout engine's, k3 estimate, nats a token."""
    importance_mean: float | None
    importance_max: float | None
    gradient_norm: float | None
    """Before clipping, mean over the step's updates."""
    metrics: dict[str, float]
    """Everything, as sent with the ack."""
    seconds: dict[str, float]
    """Time of each stage."""


class ValidationStatus(Response):
    """The newest evaluation of a version of this run."""

    policy_version: int
    benchmark: str
    measure: str
    """Which mean."""
    mean: float
    """In 0 to 1."""
    num_answered: int


class TrainerStatus(Response):
    """What the trainer does now."""

    stage: Stage
    stage_seconds: float
    """How long it has been in this stage."""
    detail: str
    """Why it waits or failed; else empty."""
    run_id: str | None
    policy_version: int | None
    """The version that the model has now."""
    num_steps: int
    """Steps of this process that counted."""
    num_rolled_back: int
    """Steps of this process that were lost with their lease."""
    num_micro_batches: int
    """Passes of the step that is running; 0 between steps."""
    num_micro_batches_done: int
    last_step: StepStatus
    validation: ValidationStatus | None = None
    """Null until one was evaluated."""
