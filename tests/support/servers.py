"""Real servers for tests: one set for each test process, one database for each test.

`Servers` starts a server when it is first asked for and stops all of them at the end; the fixtures
of `tests/conftest.py` are its only callers. Fast flags (no disk sync): tests that crash a server or
measure it start their own with `durable=True` from `etude_sampler.embedded`.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from etude_sampler.embedded import PostgresServer, RunningServer, start_postgres, start_redis
from etude_sampler.embedded.binaries import Flavour
from etude_sampler.store.postgres import migrate

TEMPLATE = "etude_template"


class Servers:
    """The servers of one test process, under one short temporary folder."""

    def __init__(self) -> None:
        # Directly under /tmp: pytest's own folders are too deep for socket paths.
        self.folder = Path(tempfile.mkdtemp(prefix="etude-test-", dir="/tmp"))
        self.folder.chmod(0o755)  # PostgreSQL may run as another user
        self._running: list[RunningServer] = []

    @cached_property
    def postgres(self) -> PostgresServer:
        """PostgreSQL; a missing binary is an error, never a skip."""
        server = start_postgres(self.folder / "postgres", durable=False)
        self._running.append(server)
        return server

    @cached_property
    def valkey(self) -> RunningServer:
        """Valkey, the server that Etude ships with."""
        return self._start_redis("valkey")

    @cached_property
    def redis(self) -> RunningServer:
        """Redis, the second server of the matrix."""
        return self._start_redis("redis")

    @cached_property
    def template(self) -> str:
        """Name of a database at the newest migration, to be cloned."""
        self.postgres.create_database(TEMPLATE)
        migrate.upgrade(self.postgres.url_of(TEMPLATE))
        return TEMPLATE

    @contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """URL (asyncpg) of a database of its own, dropped at the end with all its sessions."""
        name = f"test_{uuid.uuid4().hex}"
        self.postgres.create_database(name, template=self.template if migrated else None)
        try:
            yield self.postgres.url_of(name)
        finally:
            self.postgres.drop_database(name)

    def close(self) -> None:
        """Stop every server that was started and remove the folder."""
        for server in reversed(self._running):
            server.stop()
        self._running.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_redis(self, flavour: Flavour) -> RunningServer:
        server = start_redis(self.folder / flavour, durable=False, flavour=flavour)
        self._running.append(server)
        return server
