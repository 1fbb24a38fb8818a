"""The trainer's app: a small API over the status board; its lifespan runs the loop.

Importing and creating it does nothing; without a service it still describes itself (OpenAPI).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from etude_client.tracing import is_probe
from etude_proto import CONTRACT_VERSION

from .api import problems
from .api.routes import make_router
from .api.weights import make_weights_router
from .status import StatusBoard

if TYPE_CHECKING:
    from .service import TrainerService


def create_app(service: TrainerService | None = None) -> FastAPI:
    """The app of a service; the loop starts and ends with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if service is None:
            yield
            return
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="Etude trainer",
        version=CONTRACT_VERSION,
        summary="What the trainer does now.",
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
    problems.install(app)
    app.include_router(make_router(StatusBoard() if service is None else service.board))
    app.include_router(
        make_weights_router(
            None if service is None else service.sender,
            key=None if service is None else service.transfer_key,
        )
    )
    return app
