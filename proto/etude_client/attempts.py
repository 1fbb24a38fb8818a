"""The retry policy: what may be sent again, when, and what is raised in the end.

Pure decisions over answers and failures, shared by both clients; they own the sending and the
waiting. Rules: transport failures, 429, 502, 503, 504 and 409 `idempotency_in_progress` are sent
again with the same idempotency key; no other 4xx ever is.
"""

from __future__ import annotations

import email.utils
import random
import time
from dataclasses import dataclass

from pydantic import ValidationError

from etude_proto.v1 import Problem, ProblemCode

from .call import Answer, Call, Lines
from .errors import BY_CODE, AnswerInvalid, ApiError, Unreachable

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
"""Bounds of the exponential back-off (our choice: 8 attempts bridge a 6 to 11 s outage)."""

_RETRY_STATUSES = frozenset({429, 502, 503, 504})
_CODE_BY_STATUS = {
    400: ProblemCode.BAD_REQUEST,
    401: ProblemCode.UNAUTHORIZED,
    403: ProblemCode.FORBIDDEN,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    412: ProblemCode.REVISION_MISMATCH,
    413: ProblemCode.BODY_TOO_LARGE,
    415: ProblemCode.UNSUPPORTED_MEDIA_TYPE,
    422: ProblemCode.PAYLOAD_INVALID,
    429: ProblemCode.RATE_LIMITED,
    502: ProblemCode.DEPENDENCY_UNAVAILABLE,
    503: ProblemCode.DEPENDENCY_UNAVAILABLE,
    504: ProblemCode.DEPENDENCY_UNAVAILABLE,
}


class TransportFailure(Exception):
    """The call got no answer; raised by `transport.py`, never seen by callers of the clients."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a call may go on."""

    timeout_s: float
    """Longest silence of one attempt, beyond the call's own `wait_s`."""
    max_attempts: int
    deadline_s: float | None
    """Longest time of a whole call, waits included; null for no bound but `max_attempts`."""


class Attempts:
    """The attempts of one call."""

    def __init__(self, call: Call[object], policy: RetryPolicy) -> None:
        self._call = call
        self._policy = policy
        self._num_failed = 0
        self._begun_s = time.monotonic()
        self._patience_s = policy.timeout_s + call.wait_s

    def timeout_s(self) -> float:
        """Time-out of the next attempt."""
        left_s = self._left_s()
        return self._patience_s if left_s is None else min(self._patience_s, max(left_s, 0.001))

    def after_failure(self, failure: TransportFailure) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            Unreachable: there is no next attempt.
        """
        delay_s = self._delay_s(None)
        if delay_s is None:
            call = self._call
            raise Unreachable(
                f"{call.method} {call.path}: {failure} (attempt {self._num_failed})"
            ) from failure
        return delay_s

    def after_refusal(self, answer: Answer) -> float:
        """Seconds to wait before the next attempt, after an answer that is no success.

        Raises:
            ApiError: there is no next attempt.
            AnswerInvalid: a redirect, or another answer outside the contract.
        """
        error = error_of(answer)
        in_progress = error.code is ProblemCode.IDEMPOTENCY_IN_PROGRESS
        if not in_progress and answer.status not in _RETRY_STATUSES:
            raise error
        delay_s = self._delay_s(_retry_after_s(answer), in_progress=in_progress)
        if delay_s is None:
            raise error
        return delay_s

    def _left_s(self) -> float | None:
        if self._policy.deadline_s is None:
            return None
        return self._policy.deadline_s - (time.monotonic() - self._begun_s)

    def _delay_s(self, retry_after_s: float | None, *, in_progress: bool = False) -> float | None:
        self._num_failed += 1
        body = self._call.body
        # The first attempt may still be held as a long poll: wait for it, however many answers.
        is_over = self._num_failed >= self._policy.max_attempts
        if in_progress:
            is_over = time.monotonic() - self._begun_s >= self._patience_s
        if self._call.is_probe or is_over:
            return None
        if isinstance(body, Lines) and not body.can_send:
            return None
        ceiling_s = min(FIRST_DELAY_S * 2 ** min(self._num_failed - 1, 16), LONGEST_DELAY_S)
        delay_s = random.uniform(ceiling_s / 2, ceiling_s)
        if retry_after_s is not None:
            delay_s = retry_after_s + random.uniform(0.0, ceiling_s / 2)
        left_s = self._left_s()
        return None if left_s is not None and delay_s >= left_s else delay_s


def error_of(answer: Answer) -> ApiError:
    """The typed exception of an answer; a proxy's page becomes a problem of the same status.

    Raises:
        AnswerInvalid: the status is neither success nor error.
    """
    if answer.status < 400:
        raise AnswerInvalid(f"status {answer.status} is not part of the contract")
    try:
        problem = Problem.model_validate_json(answer.body)
    except ValidationError:
        fallback = ProblemCode.INTERNAL if answer.status >= 500 else ProblemCode.BAD_REQUEST
        problem = Problem(
            type="about:blank",
            title=f"HTTP {answer.status}",
            status=answer.status,
            detail=answer.body[:500].decode(errors="replace"),
            instance="",
            code=_CODE_BY_STATUS.get(answer.status, fallback),
            request_id=answer.headers.get("x-request-id", ""),
            retryable=answer.status in _RETRY_STATUSES,
        )
    return BY_CODE[problem.code](problem, answer.status)


def _retry_after_s(answer: Answer) -> float | None:
    """Seconds, or an HTTP date (RFC 9110, section 10.2.3); anything else is no advice."""
    text = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None
