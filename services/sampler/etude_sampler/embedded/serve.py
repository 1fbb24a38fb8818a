"""The pair that `etude serve` runs on when no URL is configured: data under `./.etude/`.

Durable, so that a killed sampler, server or machine loses nothing that was acknowledged:
PostgreSQL, the truth, syncs every commit. Valkey syncs once a second: it is derived state, rebuilt
from PostgreSQL when it comes back older, and only trajectories of the last second that were not
trained on could be lost, and only with the machine. `always` would put a disk sync into every draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from . import locking
from .locking import FileLock
from .postgres import PostgresServer, start_postgres
from .process import RunningServer, require_main_thread
from .redis import start_redis

DATABASE = "etude"


@dataclass(slots=True)
class Embedded:
    """The running pair; a context manager that stops it."""

    root: Path
    postgres: PostgresServer
    redis: RunningServer
    lock: FileLock = field(repr=False)

    @property
    def database_url(self) -> str:
        """What `ETUDE_DATABASE_URL` would hold: SQLAlchemy with asyncpg."""
        return self.postgres.url_of(DATABASE)

    @property
    def redis_url(self) -> str:
        """What `ETUDE_REDIS_URL` would hold."""
        return self.redis.url

    def start_postgres(self) -> PostgresServer:
        """Start PostgreSQL again, at the same address. Raises as `start_embedded`."""
        self.postgres = _postgres(self.root)
        return self.postgres

    def start_redis(self) -> RunningServer:
        """Start Valkey again, at the same address. Raises as `start_embedded`."""
        self.redis = _redis(self.root)
        return self.redis

    def stop(self) -> None:
        """Stop both servers in order and give the folder free; a second call does nothing."""
        try:
            self.redis.stop()
        finally:
            self.postgres.stop()
            self.lock.release()

    def __enter__(self) -> Embedded:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_embedded(root: Path) -> Embedded:
    """Start PostgreSQL and Valkey with their data under `root`, with a database `etude` in it.

    Args:
        root: `./.etude` for `etude serve`; gets `postgres`, `redis`, their logs and lock files.

    Raises:
        EmbeddedServerError: another process serves from this folder, or a server failed.
    """
    require_main_thread()
    root.mkdir(parents=True, exist_ok=True)
    lock = locking.acquire(root / "serve.lock", wait_s=0.0, what=f"folder {root.resolve()}")
    started: list[RunningServer] = []
    try:
        postgres = _postgres(root)
        started.append(postgres)
        postgres.create_database(DATABASE)
        redis = _redis(root)
    except BaseException:
        for server in started:
            server.stop()
        lock.release()
        raise
    return Embedded(root=root, postgres=postgres, redis=redis, lock=lock)


def _postgres(root: Path) -> PostgresServer:
    return start_postgres(root / "postgres", durable=True)


def _redis(root: Path) -> RunningServer:
    return start_redis(root / "redis", durable=True, appendfsync="everysec")
