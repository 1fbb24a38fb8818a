"""Routes that say how the service is: `/livez`, `/readyz`, `/metrics`, `/v1/status`."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from etude_proto.v1 import Check, Health

from ..service import RolloutService
from ..status import RolloutStatus
from .problems import PROBLEM_RESPONSES

router = APIRouter(responses=PROBLEM_RESPONSES)


def service_of(request: Request) -> RolloutService:
    """The service behind the app."""
    service = request.app.state.service
    assert isinstance(service, RolloutService)
    return service


def _health(checks: list[Check], response: Response) -> Health:
    is_ok = all(check.ok for check in checks)
    response.status_code = 200 if is_ok else 503
    return Health(
        status="ok" if is_ok else "unavailable",
        service="rollout",
        version=version("etude-rollout"),
        checks=checks,
    )


_UNHEALTHY: dict[int | str, dict[str, object]] = {503: {"model": Health, "description": "Not now"}}


@router.get("/livez", operation_id="livez", responses=_UNHEALTHY)
async def livez(request: Request, response: Response) -> Health:
    """Whether the worker is alive: false once it has failed."""
    return _health([service_of(request).worker_check()], response)


@router.get("/readyz", operation_id="readyz", responses=_UNHEALTHY)
async def readyz(request: Request, response: Response) -> Health:
    """Whether the worker can work: engine there, run known, weights loaded."""
    return _health(await service_of(request).ready_checks(), response)


@router.get("/metrics", operation_id="metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    text = generate_latest(service_of(request).metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/status", operation_id="get_status")
async def get_status(request: Request) -> RolloutStatus:
    """What the worker is doing now."""
    return service_of(request).status.snapshot()
