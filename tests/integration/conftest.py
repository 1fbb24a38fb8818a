"""Fixtures of the integration tests: replicas on real servers, in this process or in another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from etude_client import AsyncEtudeClient
from etude_sampler.embedded import RunningServer
from support.live_sampler import live_sampler
from support.rollout_parts import tiny_policy
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


@pytest.fixture
def sampler_url(database_url: str, valkey: RunningServer) -> Iterator[str]:
    """Where a sampler in a process of its own answers."""
    with live_sampler(database_url, valkey.url) as url:
        yield url


@pytest.fixture
async def client(sampler_url: str) -> AsyncIterator[AsyncEtudeClient]:
    """A client of that sampler."""
    async with AsyncEtudeClient(sampler_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy with random weights; modules that need a taught one have their own."""
    return tiny_policy(tmp_path_factory.mktemp("policy") / "tiny")
