"""Problem documents (RFC 9457) and the closed list of their codes."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Response


class ProblemCode(StrEnum):
    """Stable, machine-readable reason; the status and whether a retry can help are fixed by it."""

    BAD_REQUEST = "bad_request"
    IDEMPOTENCY_KEY_MISSING = "idempotency_key_missing"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    DATASET_NOT_FOUND = "dataset_not_found"
    RUN_NOT_FOUND = "run_not_found"
    LEASE_NOT_FOUND = "lease_not_found"
    TASK_NOT_FOUND = "task_not_found"
    KEY_NOT_FOUND = "key_not_found"
    CHECKPOINT_NOT_FOUND = "checkpoint_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    LEASE_SUPERSEDED = "lease_superseded"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    ILLEGAL_TRANSITION = "illegal_transition"
    VERSION_CONFLICT = "version_conflict"
    CURSOR_EXPIRED = "cursor_expired"
    REVISION_MISMATCH = "revision_mismatch"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    PAYLOAD_INVALID = "payload_invalid"
    TRAJECTORY_MISMATCH = "trajectory_mismatch"
    TASK_NOT_LEASED = "task_not_leased"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    RATE_LIMITED = "rate_limited"
    DEPENDENCY_UNAVAILABLE = "dependency_unavailable"
    REBUILDING = "rebuilding"
    REDIS_FULL = "redis_full"
    CARGO_FULL = "cargo_full"
    PART_NOT_INSTALLED = "part_not_installed"
    INTERNAL = "internal"


class ProblemItem(Response):
    """One fault of a payload."""

    pointer: str
    """JSON pointer into the body, `/groups/0/outcomes`."""
    detail: str


class Problem(Response):
    """Body of every 4xx and 5xx answer, `application/problem+json`."""

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str
    code: ProblemCode
    request_id: str
    retryable: bool
    errors: list[ProblemItem] = Field(default_factory=list)
