"""The FastAPI application of the rollout service. Making it opens nothing; its lifespan does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from etude_client.tracing import is_probe
from etude_proto import CONTRACT_VERSION

from .api import health, limits, problems, rollouts
from .service import RolloutService
from .settings import RolloutSettings


def create_app(settings: RolloutSettings | None = None) -> FastAPI:
    """The app over a service that starts and stops with it; settings default to the environment.

    The service is `app.state.service`.
    """
    service = RolloutService(settings or RolloutSettings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield

    app = FastAPI(
        title="Etude rollout",
        version=CONTRACT_VERSION,
        summary="Health, status, and trying a prompt on the policy that is being trained.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": is_probe,
        },
    )
    app.state.service = service
    app.add_middleware(limits.BodyLimit)
    problems.install(app)
    app.include_router(health.router)
    app.include_router(rollouts.router)
    return app
