"""Health routes: the process, its dependencies, the schema."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from etude_proto.v1 import Check, Health

from .. import __version__
from ..errors import SamplerError
from ..service.sampler import Sampler
from .deps import sampler_of
from .replies import reply
from .schema import answer

router = APIRouter(tags=["health"])
S = Annotated[Sampler, Depends(sampler_of)]
_TIMEOUT_S = 2.0
_UNAVAILABLE = answer(Health, 503, description="Not ready; see `checks`.")


def _health(checks: list[Check]) -> Health:
    good = all(check.ok for check in checks)
    return Health(
        status="ok" if good else "unavailable",
        service="sampler",
        version=__version__,
        checks=checks,
    )


async def _check(sampler: Sampler, name: str) -> Check:
    ping = sampler.ground.races.ping if name == "redis" else sampler.ground.catalog.ping
    try:
        detail = await asyncio.wait_for(ping(), _TIMEOUT_S)
    except TimeoutError:
        return Check(name=name, ok=False, detail=f"no answer within {_TIMEOUT_S:g} s")
    except SamplerError as error:
        return Check(name=name, ok=False, detail=error.detail)
    except Exception as error:
        return Check(name=name, ok=False, detail=f"{type(error).__name__}: {error}")
    return Check(name=name, ok=True, detail=detail)


@router.get("/livez", operation_id="livez", responses=answer(Health), response_class=Response)
async def livez() -> Response:
    """The process answers."""
    return reply(_health([]))


async def _ready(sampler: Sampler) -> Response:
    checks = await asyncio.gather(_check(sampler, "postgresql"), _check(sampler, "redis"))
    health = _health(list(checks))
    return reply(health, 200 if health.status == "ok" else 503)


@router.get(
    "/readyz",
    operation_id="readyz",
    responses={**answer(Health), **_UNAVAILABLE},
    response_class=Response,
)
async def readyz(sampler: S) -> Response:
    """PostgreSQL (with its schema) and Redis answer."""
    return await _ready(sampler)


@router.get(
    "/startupz",
    operation_id="startupz",
    responses={**answer(Health), **_UNAVAILABLE},
    response_class=Response,
)
async def startupz(sampler: S) -> Response:
    """The service has started."""
    return await _ready(sampler)


@router.get("/health", include_in_schema=False, response_class=Response)
async def health(sampler: S) -> Response:
    """Alias of `/readyz`."""
    return await _ready(sampler)
