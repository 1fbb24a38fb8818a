"""The sampler's errors: one tree; a class fixes code, status and whether a retry can help.

`api/problems.py` turns them into problem documents; nothing else chooses a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from etude_proto.v1 import ProblemCode, ProblemItem


class SamplerError(Exception):
    """Root of every refusal that a client can see."""

    code: ClassVar[ProblemCode] = ProblemCode.INTERNAL
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[ProblemItem] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = list(errors)
        self.retry_after_s = retry_after_s


class BadRequest(SamplerError):
    """The request line or headers make no sense."""

    code, status, title = ProblemCode.BAD_REQUEST, 400, "Bad request"


class IdempotencyKeyMissing(SamplerError):
    """A mutating POST came without `Idempotency-Key`."""

    code, status = ProblemCode.IDEMPOTENCY_KEY_MISSING, 400
    title = "Idempotency-Key header is required"


class Unauthorized(SamplerError):
    """No key, or an unknown one."""

    code, status, title = ProblemCode.UNAUTHORIZED, 401, "A valid API key is required"


class Forbidden(SamplerError):
    """The key does not cover this call."""

    code, status, title = ProblemCode.FORBIDDEN, 403, "This key may not do that"


class NotFound(SamplerError):
    """No such route."""

    code, status, title = ProblemCode.NOT_FOUND, 404, "Not found"


class DatasetNotFound(SamplerError):
    """No dataset of that id."""

    code, status, title = ProblemCode.DATASET_NOT_FOUND, 404, "No such dataset"


class RunNotFound(SamplerError):
    """No run of that id."""

    code, status, title = ProblemCode.RUN_NOT_FOUND, 404, "No such run"


class LeaseNotFound(SamplerError):
    """A lease id that this service never issued."""

    code, status, title = ProblemCode.LEASE_NOT_FOUND, 404, "No such lease"


class TaskNotFound(SamplerError):
    """No task of that id in the run's dataset."""

    code, status, title = ProblemCode.TASK_NOT_FOUND, 404, "No such task"


class CheckpointNotFound(SamplerError):
    """No checkpoint of that id in this run; retention may have dropped it."""

    code, status, title = ProblemCode.CHECKPOINT_NOT_FOUND, 404, "No such checkpoint"


class KeyNotFound(SamplerError):
    """No API key of that id."""

    code, status, title = ProblemCode.KEY_NOT_FOUND, 404, "No such API key"


class MethodNotAllowed(SamplerError):
    """The route exists, the method does not."""

    code, status, title = ProblemCode.METHOD_NOT_ALLOWED, 405, "Method not allowed"


class LeaseSuperseded(SamplerError):
    """The lease ended or was leased again: the fence is stale."""

    code, status, title = ProblemCode.LEASE_SUPERSEDED, 409, "The lease is no longer held"


class IdempotencyInProgress(SamplerError):
    """The same key is being worked on right now."""

    code, status = ProblemCode.IDEMPOTENCY_IN_PROGRESS, 409
    title, retryable = "A request with this key is still running", True


class IllegalTransition(SamplerError):
    """The object is in a state that forbids the call."""

    code, status, title = ProblemCode.ILLEGAL_TRANSITION, 409, "Not possible in this state"


class VersionConflict(SamplerError):
    """The announced policy version is not the next one."""

    code, status, title = ProblemCode.VERSION_CONFLICT, 409, "Not the next policy version"


class CursorExpired(SamplerError):
    """A cursor that this list cannot continue from."""

    code, status, title = ProblemCode.CURSOR_EXPIRED, 410, "The cursor is no longer valid"


class RevisionMismatch(SamplerError):
    """`If-Match` names an older revision."""

    code, status, title = ProblemCode.REVISION_MISMATCH, 412, "The object has changed"


class BodyTooLarge(SamplerError):
    """The body, after decompression, is over its limit."""

    code, status, title = ProblemCode.BODY_TOO_LARGE, 413, "The body is too large"


class UnsupportedMediaType(SamplerError):
    """A content type or encoding that the call does not take."""

    code, status, title = ProblemCode.UNSUPPORTED_MEDIA_TYPE, 415, "Unsupported media type"


class PayloadInvalid(SamplerError):
    """The body disagrees with the contract; `errors` names the fields."""

    code, status, title = ProblemCode.PAYLOAD_INVALID, 422, "The payload is invalid"

    @classmethod
    def at(cls, pointer: str, detail: str) -> PayloadInvalid:
        """One fault at a JSON pointer."""
        return cls(f"{pointer}: {detail}", errors=[ProblemItem(pointer=pointer, detail=detail)])


class TrajectoryMismatch(SamplerError):
    """The tensors disagree with the report or with the layout."""

    code, status = ProblemCode.TRAJECTORY_MISMATCH, 422
    title = "The trajectories disagree with the report"


class TaskNotLeased(SamplerError):
    """A reported task does not belong to the lease."""

    code, status, title = ProblemCode.TASK_NOT_LEASED, 422, "The task is not in this lease"


class IdempotencyKeyReused(SamplerError):
    """The same key came with another body."""

    code, status = ProblemCode.IDEMPOTENCY_KEY_REUSED, 422
    title = "The Idempotency-Key was used for another body"


class RateLimited(SamplerError):
    """The key has used up its calls for now."""

    code, status, title = ProblemCode.RATE_LIMITED, 429, "Too many calls"
    retryable = True


class DependencyUnavailable(SamplerError):
    """PostgreSQL or Redis does not answer."""

    code, status = ProblemCode.DEPENDENCY_UNAVAILABLE, 503
    title, retryable = "A dependency is unavailable", True

    def __init__(self, detail: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class Rebuilding(SamplerError):
    """Redis lost this run's state; one replica is rebuilding it from PostgreSQL."""

    code, status = ProblemCode.REBUILDING, 503
    title, retryable = "The run's hot state is being rebuilt", True

    def __init__(self, detail: str = "", *, retry_after_s: float = 0.5) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class RedisFull(SamplerError):
    """Redis is at its memory limit and takes nothing new; nothing was written.

    What frees memory still works: acks, releases, expiries, reports that carry no trajectories.
    """

    code, status = ProblemCode.REDIS_FULL, 503
    title, retryable = "Redis has no memory for this now", True

    def __init__(self, detail: str = "", *, retry_after_s: float = 2.0) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class PartNotInstalled(SamplerError):
    """The run's curriculum names a part of a package that is not installed here, or not usable.

    Nothing is lost: PostgreSQL and Redis keep the run, and once the package is back it goes on.
    """

    code, status = ProblemCode.PART_NOT_INSTALLED, 503
    title, retryable = "A part of the run's curriculum is not installed", True

    def __init__(self, detail: str = "", *, retry_after_s: float = 10.0) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
