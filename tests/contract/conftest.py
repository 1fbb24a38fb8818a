"""Fixtures of the contract tests: the real sampler in process, on real PostgreSQL and Valkey."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from fastapi import FastAPI

from etude_client import AsyncEtudeClient
from etude_rollout.app import create_app as create_rollout
from etude_rollout.settings import RolloutSettings
from etude_sampler.app import create_app as create_sampler
from etude_sampler.embedded import RunningServer
from etude_sampler.settings import Settings
from etude_trainer.app import create_app as create_trainer
from support.contract import JsonObject, operations

APPS: dict[str, Callable[[], FastAPI]] = {
    "sampler": lambda: create_sampler(Settings(_env_file=None)),
    "rollout": lambda: create_rollout(RolloutSettings(_env_file=None)),
    "trainer": create_trainer,
}


@pytest.fixture(scope="session", params=APPS)
def service(request: pytest.FixtureRequest) -> str:
    """Each service in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def documents() -> dict[str, JsonObject]:
    """OpenAPI of every service, from its app as it is now."""
    return {name: make().openapi() for name, make in APPS.items()}


class Recorder(httpx.AsyncBaseTransport):
    """Passes requests on to an app in process and notes which operations they were."""

    def __init__(self, app: FastAPI) -> None:
        self.called: set[str] = set()
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._patterns = {
            name: (method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path)))
            for name, (method, path) in operations(app.openapi()).items()
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Note the operation, then call it."""
        for name, (method, pattern) in self._patterns.items():
            if method == request.method and pattern.fullmatch(request.url.path):
                self.called.add(name)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """End the app's transport."""
        await self._inner.aclose()


@pytest.fixture
async def sampler(database_url: str, valkey: RunningServer) -> AsyncIterator[FastAPI]:
    """A started sampler with a database of its own."""
    app = create_sampler(
        Settings(database_url=database_url, redis_url=valkey.url, max_body_bytes=1 << 20)
    )
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def recorder(sampler: FastAPI) -> Recorder:
    """The way to the sampler, with a list of the operations that took it."""
    return Recorder(sampler)


@pytest.fixture
async def client(recorder: Recorder) -> AsyncIterator[AsyncEtudeClient]:
    """A client of that sampler."""
    async with AsyncEtudeClient("http://sampler", transport=recorder, max_attempts=2) as opened:
        yield opened
