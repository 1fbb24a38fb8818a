"""Bodies of `POST /v1/rollouts`: one prompt in, completions with their scores out."""

from __future__ import annotations

from pydantic import Field

from etude_proto.v1 import FinishReason, Message, Reference, RewardSpec, Tool
from etude_proto.v1.base import Request, Response

MAX_ROLLOUTS = 64
"""Most completions of one request."""


class RolloutRequest(Request):
    """A prompt to try. It is generated beside the worker's batches and reported to nobody."""

    messages: list[Message] = Field(min_length=1, max_length=256)
    tools: list[Tool] = Field(default_factory=list, max_length=256)
    reference: Reference | None = None
    """Gold to score against; without it there are no scores."""
    num_rollouts: int = Field(default=1, ge=1, le=MAX_ROLLOUTS)
    max_new_tokens: int | None = Field(default=None, ge=1, le=1 << 16)
    """Default: the service's."""
    temperature: float | None = Field(default=None, ge=0.0, le=10.0)
    """0 takes the most likely token, and then `num_rollouts` must be 1. Default: the service's."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Default: the service's."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    reward: RewardSpec = RewardSpec()
    """How to score."""


class Score(Response):
    """What a completion earned."""

    reward: float
    """The rule reward R, all component weights 1."""
    success: bool
    components: dict[str, float]


class TriedRollout(Response):
    """One completion."""

    text: str
    """What is scored: the prefill, if any, and the completion."""
    finish_reason: FinishReason
    num_tokens: int
    mean_logprob: float | None
    """Per token, in nats; null for an empty completion."""
    score: Score | None


class RolloutAnswer(Response):
    """Answer of `POST /v1/rollouts`."""

    policy_version: int
    engine: str
    prompt: str
    """The prompt as the model read it."""
    num_prompt_tokens: int
    rollouts: list[TriedRollout]
