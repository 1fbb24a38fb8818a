"""Errors of the small API as problem documents (RFC 9457), with the contract's codes.

Routes raise `ApiFault`; `app.py` installs the handlers.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from etude_proto.v1 import Problem, ProblemCode, ProblemItem

_log = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_RESPONSES: dict[int | str, dict[str, object]] = {
    "4XX": {"description": "Refused", "content": {PROBLEM_MEDIA_TYPE: {}}, "model": Problem},
    "5XX": {"description": "Failed", "content": {PROBLEM_MEDIA_TYPE: {}}, "model": Problem},
}
"""Declared by every route, so that OpenAPI holds our errors only."""

_CODES = {
    401: ProblemCode.UNAUTHORIZED,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    413: ProblemCode.BODY_TOO_LARGE,
    422: ProblemCode.PAYLOAD_INVALID,
    503: ProblemCode.DEPENDENCY_UNAVAILABLE,
}
RETRY_AFTER_S = 2


class ApiFault(Exception):
    """A refusal of this API."""

    def __init__(self, status: int, detail: str, *, errors: Sequence[ProblemItem] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)


def problem_response(
    status: int, detail: str, *, instance: str, errors: Sequence[ProblemItem] = ()
) -> Response:
    """A problem document as a response."""
    fallback = ProblemCode.INTERNAL if status >= 500 else ProblemCode.BAD_REQUEST
    code = _CODES.get(status, fallback)
    request_id = uuid.uuid4().hex
    problem = Problem(
        type=f"https://etude.dev/problems/{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=instance,
        code=code,
        request_id=request_id,
        retryable=status == 503,
        errors=list(errors),
    )
    headers = {"x-request-id": request_id}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(
        problem.model_dump_json(), status, headers=headers, media_type=PROBLEM_MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document, and say so in OpenAPI."""

    @app.exception_handler(ApiFault)
    async def _fault(request: Request, fault: ApiFault) -> Response:
        return problem_response(
            fault.status, fault.detail, instance=request.url.path, errors=fault.errors
        )

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        items = [
            ProblemItem(
                pointer="".join(f"/{part}" for part in item["loc"][1:]), detail=str(item["msg"])
            )
            for item in error.errors()
        ]
        detail = "the body is not what this call expects"
        return problem_response(422, detail, instance=request.url.path, errors=items)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return problem_response(error.status_code, str(error.detail), instance=request.url.path)

    @app.exception_handler(Exception)
    async def _internal(request: Request, error: Exception) -> Response:
        _log.error("api.failed", extra={"path": request.url.path}, exc_info=error)
        return problem_response(500, "an internal error", instance=request.url.path)

    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        for item in document["paths"].values():
            for operation in item.values():
                for answer in operation["responses"].values():
                    content = answer.get("content", {})
                    if PROBLEM_MEDIA_TYPE in content and "application/json" in content:
                        content[PROBLEM_MEDIA_TYPE] = content.pop("application/json")
        return document

    app.openapi = openapi  # type: ignore[method-assign]
