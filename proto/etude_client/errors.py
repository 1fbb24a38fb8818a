"""Exceptions of the client: one root, one class for every problem code of the contract.

`attempts.py` raises them; callers catch `EtudeError` or the class they can act on. They pickle.
"""

from __future__ import annotations

from etude_proto.v1 import Problem, ProblemCode


class EtudeError(Exception):
    """Root of everything that the client raises by itself."""


class Unreachable(EtudeError, ConnectionError):
    """No answer after all attempts: refused, dropped or timed out. Whether the call took effect is
    unknown; the same call with the same idempotency key is safe."""


class AnswerInvalid(EtudeError, ValueError):
    """The server answered something that is not part of the contract."""


class ApiError(EtudeError):
    """The server answered with a problem document."""

    def __init__(self, problem: Problem, status: int) -> None:
        super().__init__(problem, status)
        self.problem = problem
        self.status = status

    def __str__(self) -> str:
        problem = self.problem
        faults = "; ".join(f"{item.pointer}: {item.detail}" for item in problem.errors[:5])
        text = f"{self.status} {problem.code}: {problem.detail or problem.title}"
        return f"{text} ({faults})" if faults else text

    @property
    def code(self) -> ProblemCode:
        """The problem's stable reason."""
        return self.problem.code


class BadRequest(ApiError):
    """The request as a whole makes no sense (400)."""


class IdempotencyKeyMissing(ApiError):
    """A mutating call came without its key (400)."""


class Unauthorized(ApiError):
    """No key, or an unknown one (401)."""


class Forbidden(ApiError):
    """The key lacks the scope (403)."""


class NotFound(ApiError, LookupError):
    """There is no such path (404), and the root of the more specific classes."""


class DatasetNotFound(NotFound):
    """There is no such dataset (404)."""


class RunNotFound(NotFound):
    """There is no such run (404)."""


class LeaseNotFound(NotFound):
    """The lease never existed, or it was settled or forgotten (404)."""


class CheckpointNotFound(NotFound):
    """The run has no such checkpoint, or not any more (404)."""


class TaskNotFound(NotFound):
    """The run has no such task (404)."""


class KeyNotFound(NotFound):
    """There is no such API key (404)."""


class MethodNotAllowed(ApiError):
    """The path exists, the method does not (405)."""


class LeaseSuperseded(ApiError):
    """The lease expired or the fence is stale: somebody else may hold the tasks (409)."""


class IdempotencyInProgress(ApiError):
    """The first call with this key is still running (409); retried by the client."""


class IllegalTransition(ApiError):
    """The object's state does not allow this (409)."""


class VersionConflict(ApiError):
    """Not the policy version that comes next (409)."""


class CursorExpired(ApiError):
    """Start again at the first page (410)."""


class RevisionMismatch(ApiError):
    """Somebody else changed the run since it was read (412)."""


class BodyTooLarge(ApiError):
    """The body, or what it unpacks to, is over the limit (413)."""


class UnsupportedMediaType(ApiError):
    """The body's type or encoding is unknown to this path (415)."""


class PayloadInvalid(ApiError, ValueError):
    """The payload is malformed; `problem.errors` names the fields (422)."""


class TrajectoryMismatch(ApiError, ValueError):
    """Tensors and report disagree (422)."""


class TaskNotLeased(ApiError, ValueError):
    """The report names a task that the lease never held (422)."""


class IdempotencyKeyReused(ApiError, ValueError):
    """The key was used with another body (422)."""


class Busy(ApiError):
    """Root of the answers that a later retry can turn into success (429, 503)."""


class RateLimited(Busy):
    """Too many calls (429)."""


class DependencyUnavailable(Busy):
    """PostgreSQL or Redis is away, or a proxy cannot reach the service (502, 503, 504)."""


class Rebuilding(Busy):
    """The hot state is being rebuilt from the ledger (503)."""


class RedisFull(Busy):
    """Redis is at its memory limit; acks, releases and expiries make room (503)."""


class CargoFull(Busy):
    """The budget for trajectories is used up until a trainer takes some (503)."""


class PartNotInstalled(Busy):
    """The run's curriculum names a part of a package that this sampler does not have (503)."""


class InternalError(ApiError):
    """A fault of the server (500); `problem.request_id` finds it in its log."""


BY_CODE: dict[ProblemCode, type[ApiError]] = {
    ProblemCode.BAD_REQUEST: BadRequest,
    ProblemCode.IDEMPOTENCY_KEY_MISSING: IdempotencyKeyMissing,
    ProblemCode.UNAUTHORIZED: Unauthorized,
    ProblemCode.FORBIDDEN: Forbidden,
    ProblemCode.NOT_FOUND: NotFound,
    ProblemCode.DATASET_NOT_FOUND: DatasetNotFound,
    ProblemCode.RUN_NOT_FOUND: RunNotFound,
    ProblemCode.LEASE_NOT_FOUND: LeaseNotFound,
    ProblemCode.TASK_NOT_FOUND: TaskNotFound,
    ProblemCode.CHECKPOINT_NOT_FOUND: CheckpointNotFound,
    ProblemCode.KEY_NOT_FOUND: KeyNotFound,
    ProblemCode.METHOD_NOT_ALLOWED: MethodNotAllowed,
    ProblemCode.LEASE_SUPERSEDED: LeaseSuperseded,
    ProblemCode.IDEMPOTENCY_IN_PROGRESS: IdempotencyInProgress,
    ProblemCode.ILLEGAL_TRANSITION: IllegalTransition,
    ProblemCode.VERSION_CONFLICT: VersionConflict,
    ProblemCode.CURSOR_EXPIRED: CursorExpired,
    ProblemCode.REVISION_MISMATCH: RevisionMismatch,
    ProblemCode.BODY_TOO_LARGE: BodyTooLarge,
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: UnsupportedMediaType,
    ProblemCode.PAYLOAD_INVALID: PayloadInvalid,
    ProblemCode.TRAJECTORY_MISMATCH: TrajectoryMismatch,
    ProblemCode.TASK_NOT_LEASED: TaskNotLeased,
    ProblemCode.IDEMPOTENCY_KEY_REUSED: IdempotencyKeyReused,
    ProblemCode.RATE_LIMITED: RateLimited,
    ProblemCode.DEPENDENCY_UNAVAILABLE: DependencyUnavailable,
    ProblemCode.REBUILDING: Rebuilding,
    ProblemCode.REDIS_FULL: RedisFull,
    ProblemCode.CARGO_FULL: CargoFull,
    ProblemCode.PART_NOT_INSTALLED: PartNotInstalled,
    ProblemCode.INTERNAL: InternalError,
}
"""Every code of the contract and its class; a test keeps the table complete."""
