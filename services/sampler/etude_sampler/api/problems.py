"""Problem documents (RFC 9457): the only form in which this service refuses anything."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from etude_proto.v1 import Problem, ProblemItem
from etude_sampler.curriculum.faults import pointer

from ..errors import (
    BadRequest,
    BodyTooLarge,
    DependencyUnavailable,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    PayloadInvalid,
    SamplerError,
    UnsupportedMediaType,
)

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger("etude.api")
_BY_STATUS: dict[int, type[SamplerError]] = {
    400: BadRequest,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def problem_response(request: Request, error: SamplerError) -> Response:
    """An error as a response."""
    problem = Problem(
        type=f"https://etude.dev/problems/{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=request.url.path,
        code=error.code,
        request_id=request.scope.get("request_id", ""),
        retryable=error.retryable,
        errors=error.errors,
    )
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(problem.model_dump_json(), error.status, headers=headers, media_type=MEDIA_TYPE)


def invalid(error: ValidationError | RequestValidationError, *, prefix: str = "") -> PayloadInvalid:
    """A validation failure, each fault with a JSON pointer."""
    faults = error.errors()
    items = [
        ProblemItem(pointer=prefix + pointer(*fault["loc"]), detail=fault["msg"])
        for fault in faults[:100]
    ]
    first = f"{items[0].pointer or '/'}: {items[0].detail}" if items else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return PayloadInvalid(first + more, errors=items)


def _on_sampler_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SamplerError)
    return problem_response(request, error)


def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(request, invalid(error))


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code, BadRequest)
    response = problem_response(request, kind(str(error.detail)))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    if error.status_code == 405:  # the route that refused knows its own method only
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """The methods that some route has for this path."""
    routes = request.app.router.routes
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    ]


def on_crash(scope: Scope, error: BaseException) -> Response:
    """What a caller is told when its request ends in an error that nobody foresaw.

    The outermost layer answers with it: an exception handler's answer would pass it by, and have
    neither an id nor the headers of every answer.
    """
    request = Request(scope)
    if isinstance(error, CancelledError):
        return problem_response(request, DependencyUnavailable("the service is stopping"))
    _LOG.error("request.crashed", exc_info=error, extra={"path": request.url.path})
    return problem_response(request, SamplerError("an internal error; the log names it"))


def _on_gone(request: Request, error: Exception) -> Response:
    """The caller left before its body was read: nobody hears the answer, the log has the status."""
    return Response(status_code=499)


def install(app: FastAPI) -> None:
    """Make every refusal of `app` a problem document."""
    handlers: dict[type[Exception], Callable[[Request, Exception], Response]] = {
        SamplerError: _on_sampler_error,
        RequestValidationError: _on_validation,
        HTTPException: _on_http,
        ClientDisconnect: _on_gone,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
