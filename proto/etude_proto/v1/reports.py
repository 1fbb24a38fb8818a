"""Reports: one group per task, under a lease and its fence, answered by a receipt."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from .base import Count, Fence, Id, Request, Response, Reward, Score, SubtaskName, Text, Version
from .demonstrations import MAX_COMPLETION_CHARS


class FinishReason(StrEnum):
    """How a rollout ended. The last three are infrastructure failures: never statistics."""

    STOP = "stop"
    LENGTH = "length"
    MAX_TURNS = "max_turns"
    TOOL_LIMIT = "tool_limit"
    TIMEOUT = "timeout"
    ERROR = "error"
    ABORTED = "aborted"

    @property
    def is_valid(self) -> bool:
        """Whether the rollout says something about the policy."""
        return self not in (FinishReason.TIMEOUT, FinishReason.ERROR, FinishReason.ABORTED)


class Outcome(Request):
    """What the sampler learns of one rollout."""

    components: dict[SubtaskName, Score] = Field(max_length=32)
    """Raw reward components active for the task."""
    reward: Reward
    """The rule reward R, before shaping, bonuses, lengths or KL."""
    shaping: Reward = 0.0
    """What is added to R for the advantage only."""
    success: bool
    """All active components equal 1."""
    finish_reason: FinishReason
    num_turns: Count = 1
    num_tokens: Count = 0
    """Completion tokens."""
    min_policy_version: Version | None = None
    """Oldest policy version that produced a token; default: the one that came with the lease."""
    max_policy_version: Version | None = None
    """Newest policy version that produced a token; default: the oldest, or the lease's."""
    role: Literal["planner", "reflector"] | None = None
    """Rollouts of one role are compared with each other only when advantages are computed."""
    completion: str | None = Field(
        default=None, max_length=MAX_COMPLETION_CHARS, pattern=r"^[^\x00]*$"
    )
    """The completion's text, of one right rollout a group, where the prompt batch asks for it
    (`wants_completions`); kept for a while, not in the ledger."""


class Attempt(Request):
    """The rollouts of one task with one prompt variant, inside one lease."""

    scaffold_kind: str = Field(default="none", pattern=r"^[a-z][a-z0-9_]*$", max_length=32)
    scaffold_level: int = Field(default=0, ge=0, le=1024)
    number: int = Field(default=0, ge=0, le=1024)
    """Counts attempts with the same kind and level."""
    outcomes: list[Outcome] = Field(min_length=1, max_length=1024)
    merged: bool = False
    """Put together from rollouts of the attempts before it: the group to train on, which is gated
    but never counted, for its rollouts are counted where they were made."""
    num_roots: int | None = Field(default=None, ge=1)
    """Rollouts that began with the prompt; the others are branches, cloned in mid-episode, and not
    independent: successes and failures count `num_roots / outcomes` each. Null: all are roots."""

    @model_validator(mode="after")
    def _roots_are_outcomes(self) -> Self:
        if self.num_roots is not None and self.num_roots > len(self.outcomes):
            raise ValueError("num_roots is more than there are outcomes")
        return self


class GroupReport(Request):
    """The group of one task: its attempts, in order; the last is the one to train on."""

    task_id: Id
    attempts: list[Attempt] = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _merged_comes_last(self) -> Self:
        merged = [attempt.merged for attempt in self.attempts]
        if any(merged[:-1]) or merged == [True]:
            raise ValueError("a merged attempt comes last, after those that it is made of")
        return self


class Report(Request):
    """Body of `POST /v1/leases/{id}/groups`, or metadata of a safetensors body (one group)."""

    fence: Fence
    groups: list[GroupReport] = Field(min_length=1, max_length=4096)
    worker: Text | None = Field(default=None, max_length=128)
    engine: Text | None = Field(default=None, max_length=128)
    """What generated, with its precision: `vllm-0.32/bf16`."""


class Verdict(StrEnum):
    """What became of an attempt's outcomes."""

    APPLIED = "applied"
    """In the ledger and in the statistics."""
    INVALID = "invalid"
    """Fewer than two valid rollouts, or none with a scaffold: in the ledger only."""
    STALE = "stale"
    """More than 8 policy versions old: in the ledger only."""
    LATE = "late"
    """The fence was superseded: in the ledger only."""
    MERGED = "merged"
    """Put together from other attempts: in the ledger, gated, never counted."""


class GateVerdict(StrEnum):
    """Whether the group goes on to training."""

    ADMITTED = "admitted"
    NO_TOKENS = "no_tokens"
    """Informative, but reported without trajectories."""
    ZERO_VARIANCE = "zero_variance"
    TOO_STALE = "too_stale"
    EVICTED = "evicted"
    """The byte budget was full: its trajectories were dropped, its outcomes count."""
    NOT_APPLIED = "not_applied"
    SCREENED = "screened"
    """Stopped after its first phase: its outcomes count, it is not trained on."""
    PROBE = "probe"
    """Rolled out to learn of the task only: its outcomes count, it is not trained on."""


class AttemptReceipt(Response):
    """What became of one attempt."""

    scaffold_kind: str
    scaffold_level: int
    number: int
    verdict: Verdict
    apply_seq: int | None
    """Position in the run's order of application; also of merged attempts."""


class GroupReceipt(Response):
    """What became of one task's group."""

    task_id: Id
    attempts: list[AttemptReceipt]
    gate: GateVerdict


class Receipt(Response):
    """The answer to a report; a retry returns the same one, byte for byte."""

    id: Id
    lease_id: Id
    groups: list[GroupReceipt]
    num_remaining: int
    """Tasks of the lease not yet reported."""
    policy_version: Version
    """The run's current version, so that workers notice new weights early."""
