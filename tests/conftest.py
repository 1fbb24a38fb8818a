"""Fixtures for all tests: real servers (see `support.servers`), a database for each test.

Each process of the test run has its own servers, started when a test first asks for them. Redis is
never flushed: a test uses a run id of its own, and so may run beside any other.
"""

from __future__ import annotations

import functools
import gc
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from etude_sampler.embedded import PostgresServer, RunningServer
from support.servers import Servers

settings.register_profile("etude", deadline=None)  # how busy the machine is proves nothing
settings.load_profile("etude")

# What is imported stays: with the default thresholds a fifth of the time goes into walking it.
gc.set_threshold(50_000, 20, 50)

_CORE = ("etude_sampler.", "etude_rollout.rewards", "etude_trainer.algorithms")
"""What a unit test imports that the coverage of the pure core is counted from."""


@functools.cache
def _is_traced(path: Path) -> bool:
    """Whether a file is traced: unit tests of the core are, others would only cost time."""
    name = path.relative_to(Path(__file__).parent).as_posix()
    if not name.startswith("unit/") or name.startswith("unit/sampler/test_import"):
        return False
    text = path.read_text("utf-8")
    return any(package in text for package in _CORE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, for others fit beside it; trace unit tests of the core but slow ones."""
    items.sort(key=lambda item: item.path.parent.name != "e2e")
    for item in items:
        if not _is_traced(item.path) or item.get_closest_marker("slow") is not None:
            item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    """Modules and tests are never garbage again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this test process; each starts on first use."""
    pool = Servers()
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture(scope="session")
def postgres(servers: Servers) -> PostgresServer:
    """PostgreSQL without disk syncs; databases come from `database_url`."""
    return servers.postgres


@pytest.fixture(scope="session")
def valkey(servers: Servers) -> RunningServer:
    """Valkey without persistence, shared by all tests of this process."""
    return servers.valkey


@pytest.fixture(scope="session")
def redis(servers: Servers) -> RunningServer:
    """Redis without persistence, shared by all tests of this process."""
    return servers.redis


@pytest.fixture(params=["valkey", "redis"])
def redis_server(request: pytest.FixtureRequest) -> RunningServer:
    """Each of the two servers in turn, for what must hold on both."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, RunningServer)
    return server


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """URL (SQLAlchemy, asyncpg) of a migrated, empty database of this test's own."""
    with servers.database() as url:
        yield url


@pytest.fixture
def empty_database_url(servers: Servers) -> Iterator[str]:
    """URL (SQLAlchemy, asyncpg) of a database without tables, for tests of migrations."""
    with servers.database(migrated=False) as url:
        yield url


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder with a short path, for tests that start servers of their own."""
    folder = Path(tempfile.mkdtemp(prefix="etude-own-", dir="/tmp"))
    folder.chmod(0o755)  # PostgreSQL may run as another user
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
