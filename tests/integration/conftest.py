"""Fixtures of the sampler's integration tests: replicas on real servers, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, sampler_app


@pytest.fixture
async def api(database_url: str, redis_server: RunningServer) -> AsyncIterator[Api]:
    """One replica, on Valkey and on Redis."""
    async with sampler_app(database_url, redis_server.url) as started:
        yield started


@pytest.fixture
async def valkey_api(database_url: str, valkey: RunningServer) -> AsyncIterator[Api]:
    """One replica, on Valkey only: for what does not depend on the server."""
    async with sampler_app(database_url, valkey.url) as started:
        yield started


@pytest.fixture
async def pair(database_url: str, redis_server: RunningServer) -> AsyncIterator[tuple[Api, Api]]:
    """Two replicas on the same servers."""
    async with (
        sampler_app(database_url, redis_server.url) as first,
        sampler_app(database_url, redis_server.url) as second,
    ):
        yield first, second
