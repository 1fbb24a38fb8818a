"""Errors of the trainer's small API as problem documents (RFC 9457), with the contract's codes.

`routes.py` declares them on every call; `app.py` installs the handlers.
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

MEDIA_TYPE = "application/problem+json"
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused", "content": {MEDIA_TYPE: {}}, "model": Problem},
    "5XX": {"description": "Failed", "content": {MEDIA_TYPE: {}}, "model": Problem},
}
_CODES = {
    401: ProblemCode.UNAUTHORIZED,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    409: ProblemCode.ILLEGAL_TRANSITION,
    422: ProblemCode.PAYLOAD_INVALID,
    503: ProblemCode.DEPENDENCY_UNAVAILABLE,
}
_log = logging.getLogger(__name__)


def _response(
    status: int, detail: str, *, instance: str, errors: Sequence[ProblemItem] = ()
) -> Response:
    code = _CODES.get(status, ProblemCode.INTERNAL if status >= 500 else ProblemCode.BAD_REQUEST)
    request_id = uuid.uuid4().hex
    problem = Problem(
        type=f"urn:etude:problem:{code}",
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
    return Response(problem.model_dump_json(), status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document, and say so in OpenAPI."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return _response(error.status_code, str(error.detail), instance=request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        faults = [
            ProblemItem(pointer="/" + "/".join(map(str, fault["loc"][1:])), detail=fault["msg"])
            for fault in error.errors()
        ]
        detail = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults)
        return _response(422, detail, instance=request.url.path, errors=faults)

    @app.exception_handler(Exception)
    async def _internal(request: Request, error: Exception) -> Response:
        _log.error("api.failed path=%s", request.url.path, exc_info=error)
        return _response(500, "an internal error", instance=request.url.path)

    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        for item in document["paths"].values():
            for operation in item.values():
                operation["responses"].pop("422", None)  # FastAPI's own; ours is among the 4XX
                for answer in operation["responses"].values():
                    content = answer.get("content", {})
                    if MEDIA_TYPE in content and "application/json" in content:
                        content[MEDIA_TYPE] = content.pop("application/json")
        return document

    app.openapi = openapi  # type: ignore[method-assign]
