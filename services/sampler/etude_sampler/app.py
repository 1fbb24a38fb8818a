"""The composition root: settings in, a wired FastAPI app out. Nothing happens before `lifespan`."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.routing import BaseRoute

from etude_client.tracing import is_probe, sending
from etude_proto import v1
from etude_proto.keys import digest_of

from . import __version__
from .api import control, data, health, keys, looking, problems, removal, schema, travel
from .api.access import authorize
from .api.deps import check_url, sampler_of
from .api.heads import STOPPING
from .curriculum import part_table
from .dashboard.page import router as dashboard
from .observability.logs import configure
from .observability.metrics import make_metrics
from .observability.middleware import Observe
from .observability.run_metrics import exposition
from .service.sampler import Access, Sampler, make_sampler
from .service.watching import look
from .settings import Settings
from .store.postgres.catalog import PostgresCatalog
from .store.postgres.checkpoints import PostgresCheckpoints
from .store.postgres.engine import create_engine
from .store.postgres.keys import PostgresKeys
from .store.postgres.ledger import PostgresLedger
from .store.postgres.retention import PostgresKeeper
from .store.redis.connection import connect
from .store.redis.throttle import RedisThrottle
from .store.redis.views import RedisRaces

_LOG = logging.getLogger("etude.app")
_HEARTBEAT_POOL = 8
_REQUESTS: list[type[BaseModel]] = [
    v1.DatasetCreate,
    v1.RunCreate,
    v1.RunUpdate,
    v1.PromptBatchRequest,
    v1.ExtendRequest,
    v1.ReleaseRequest,
    v1.TrainingBatchRequest,
    v1.AckRequest,
    v1.PolicyVersionRequest,
    v1.PredictionsRequest,
    v1.KeyCreate,
    v1.CheckpointCreate,
    v1.RestoreRequest,
    v1.ForkRequest,
]
_ANSWERS: list[type[BaseModel]] = [
    v1.Dataset,
    v1.DatasetPage,
    v1.ImportReceipt,
    v1.Run,
    v1.RunPage,
    v1.PromptBatch,
    v1.Lease,
    v1.Released,
    v1.Receipt,
    v1.AckReceipt,
    v1.PredictionsReceipt,
    v1.CurriculumView,
    v1.HistoryPage,
    v1.Series,
    v1.Activity,
    v1.Distributions,
    v1.TaskPage,
    v1.TaskView,
    v1.Key,
    v1.KeyPage,
    v1.Checkpoint,
    v1.CheckpointPage,
    v1.Restore,
    v1.RestorePage,
    v1.DrawPage,
    v1.Deleted,
    v1.Health,
]


_GC_THRESHOLDS = (50_000, 20, 50)
"""Objects made before a young collection, and collections before an older generation's."""


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Sampler]:
    """A wired sampler on live connections, closed on exit.

    Raises:
        ValueError: a URL is missing (`etude serve` fills them in when embedded).
    """
    if settings.database_url is None or settings.redis_url is None:
        raise ValueError("ETUDE_DATABASE_URL and ETUDE_REDIS_URL must be set")
    timeout_s = settings.dependency_timeout_s
    engine = create_engine(settings.database_url, pool_size=settings.pool_size, timeout_s=timeout_s)
    hot = connect(settings.redis_url, pool_size=settings.redis_pool_size, timeout_s=timeout_s)
    beats = connect(settings.redis_url, pool_size=_HEARTBEAT_POOL, timeout_s=timeout_s)
    access = Access(
        keys=PostgresKeys(engine),
        throttle=RedisThrottle(hot),
        configured=tuple(digest_of(key) for key in settings.accepted_keys()),
        rate_per_s=settings.rate_per_s,
        rate_burst=settings.rate_burst,
    )
    try:
        sampler = make_sampler(
            catalog=PostgresCatalog(engine),
            checkpoints=PostgresCheckpoints(engine),
            ledger=PostgresLedger(engine),
            keeper=PostgresKeeper(engine),
            races=RedisRaces(hot),
            heartbeat_races=RedisRaces(beats),
            access=access,
            task_cache_bytes=settings.task_cache_bytes,
            commit_timeout_s=timeout_s,
        )
        try:
            yield sampler
        finally:
            await sampler.callers.close()
    finally:
        await hot.aclose()
        await beats.aclose()
        await engine.dispose()


def _tell_parts() -> None:
    """Load installed parts of curricula now, and log those that cannot be used."""
    for broken in part_table().broken:
        _LOG.warning("curriculum.part_broken", extra=asdict(broken))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Callable[[], None]]]:
    settings: Settings = app.state.settings
    _tell_parts()
    async with AsyncExitStack() as stack:
        stack.enter_context(
            sending("etude-sampler", settings.traces_url, ratio=settings.traces_ratio)
        )
        sampler = await stack.enter_async_context(connected(settings))
        if not settings.is_loopback and not await sampler.callers.any():
            raise RuntimeError(f"refusing to listen on {settings.host} without ETUDE_API_KEYS")
        app.state.sampler = sampler
        jobs = asyncio.create_task(sampler.background.run())
        try:
            yield {STOPPING: sampler.ground.bells.close}
        finally:
            jobs.cancel()
            await asyncio.gather(jobs, return_exceptions=True)
            app.state.sampler = None


@functools.cache
def _routes() -> tuple[BaseRoute, ...]:
    """The routes of every app of this process: FastAPI analyses what they take once, not again."""
    router = APIRouter()
    for module in (control, data, looking, keys, removal, travel):
        router.include_router(module.router, dependencies=[Depends(authorize), Depends(check_url)])
    router.include_router(health.router)
    router.include_router(dashboard)
    return tuple(router.routes)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The sampler's app. Opens nothing until it starts."""
    app = FastAPI(
        title="Etude sampler",
        version=__version__,
        description="Decides what a tool-using LLM practises next.",
        lifespan=_lifespan,
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
    app.state.settings = settings or Settings()
    metrics = make_metrics()
    app.router.routes.extend(_routes())
    problems.install(app)
    schema.install(app, [*_REQUESTS, *_ANSWERS])
    app.add_middleware(Observe, metrics=metrics, on_crash=problems.on_crash)

    @app.get(
        "/metrics",
        operation_id="metrics",
        include_in_schema=False,
        dependencies=[Depends(authorize)],
    )
    async def prometheus(request: Request) -> Response:
        sampler = await sampler_of(request)
        text = generate_latest(metrics.registry) + exposition(await look(sampler.ground))
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return app


def create_app_from_env() -> FastAPI:
    """For `uvicorn --factory`: settings from the environment, logs as JSON lines.

    The process is the service's own, so its garbage collector is told what a report is: hundreds
    of short-lived objects beside caches that live for long. With the default thresholds a third
    of the report path's time went into walking those caches again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    settings = Settings()
    configure(settings.log_level)
    return create_app(settings)
