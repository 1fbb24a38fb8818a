"""One PostgreSQL server: `initdb` when the data directory is new, then `postgres` itself.

`pg_ctl` and its wrappers are avoided: they detach the server from its parent. Called by `serve`
and by the tests; uses `identity` (PostgreSQL refuses root) and `wire` (readiness).
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

from . import binaries, identity, locking, process, wire
from .errors import EmbeddedServerError
from .locking import FileLock
from .process import Launch, RunningServer
from .sockets import socket_folder

PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
DUPLICATE_DATABASE = "42P04"
INITDB_FLAGS = (
    *("-U", "postgres", "-A", "trust", "-E", "UTF8"),
    *("--locale=C", "--no-sync", "--no-instructions"),
)
FAST_FLAGS = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class PostgresServer(RunningServer):
    """A running PostgreSQL; `url` and `dsn` name the database `postgres`."""

    socket_dir: Path = field(kw_only=True)

    @property
    def dsn(self) -> str:
        """Address of the database `postgres` for libpq and psycopg."""
        return self.dsn_of("postgres")

    def url_of(self, database: str) -> str:
        """SQLAlchemy address of a database, driver asyncpg."""
        return _url("postgresql+asyncpg", self.socket_dir, database)

    def dsn_of(self, database: str) -> str:
        """Address of a database for libpq and psycopg."""
        return _url("postgresql", self.socket_dir, database)

    def create_database(self, name: str, *, template: str | None = None) -> bool:
        """Create a database, by default an empty one; returns whether it was missing.

        Raises:
            EmbeddedServerError: the server refused, say because the template is in use.
        """
        sql = f"CREATE DATABASE {_quoted(name)}"
        if template is not None:
            # Files are copied whole: half the work of logging each of their pages.
            sql += f" TEMPLATE {_quoted(template)} STRATEGY FILE_COPY"
        try:
            self._execute(sql)
        except wire.PostgresRefusal as refusal:
            if refusal.sqlstate == DUPLICATE_DATABASE:
                return False
            raise
        return True

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, ending the sessions in it."""
        self._execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def _execute(self, sql: str) -> None:
        wire.execute(self.socket_dir / SOCKET_NAME, database="postgres", sql=sql)


def start_postgres(data_dir: Path, *, durable: bool) -> PostgresServer:
    """Start PostgreSQL on a data directory, new or used, and wait until it takes sessions.

    Beside `data_dir` appear `<name>.lock` and `<name>.log`. Waits a while for a server that is
    still leaving the same directory.

    Args:
        data_dir: created and initialised if missing or empty.
        durable: with False a crash of the machine or of the server may lose data (tests only).

    Raises:
        EmbeddedServerError: no binaries, directory in use or unusable, or the server failed.
    """
    process.require_main_thread()
    data_dir = data_dir.resolve()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    what = f"PostgreSQL data directory {data_dir}"
    lock = locking.acquire(process.lock_path(data_dir), wait_s=process.LOCK_WAIT_S, what=what)
    try:
        return _start_locked(data_dir, durable=durable, lock=lock)
    finally:
        lock.release()  # the server has its own copy


def _start_locked(data_dir: Path, *, durable: bool, lock: FileLock) -> PostgresServer:
    runs_as = identity.choose()
    programs = identity.reachable_binaries(runs_as, binaries.postgres_folder())
    environment = _environment()
    _initialise(data_dir, programs, runs_as=runs_as, environment=environment)
    sockets = socket_folder(data_dir, socket_name=SOCKET_NAME)
    for folder in {data_dir, sockets}:
        identity.hand_over(runs_as, folder)
    command = (
        *runs_as.prefix,
        *(str(programs / "postgres"), "-D", str(data_dir), "-p", str(PORT)),
        *("-c", "listen_addresses=", "-c", f"unix_socket_directories={sockets}"),
        *("-c", "unix_socket_permissions=0700", "-c", "shared_buffers=64MB"),
        *(() if durable else FAST_FLAGS),
    )
    launch = Launch(
        name="PostgreSQL",
        command=command,
        data_dir=data_dir,
        environment=environment,
        stop_signal=signal.SIGINT,  # SIGTERM would wait for the clients to leave
        is_ready=partial(wire.accepts_sessions, sockets / SOCKET_NAME),
        poll_s=0.02,
        uid=runs_as.uid,
    )
    return PostgresServer(
        name=launch.name,
        url=_url("postgresql+asyncpg", sockets, "postgres"),
        data_dir=data_dir,
        log=process.log_path(data_dir),
        process=process.spawn(launch, lock=lock),
        stop_signal=launch.stop_signal,
        socket_dir=sockets,
    )


def _initialise(
    data_dir: Path,
    programs: Path,
    *,
    runs_as: identity.Identity,
    environment: dict[str, str],
) -> None:
    """Run `initdb` beside the data directory and rename, so that a crash leaves no half of one."""
    if data_dir.is_dir() and any(data_dir.iterdir()):
        if not (data_dir / "PG_VERSION").is_file():
            raise EmbeddedServerError(f"{data_dir} holds other files than PostgreSQL's")
        return
    staging = data_dir.with_name(data_dir.name + ".new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    identity.hand_over(runs_as, staging)
    initdb = (*runs_as.prefix, str(programs / "initdb"), "-D", str(staging), *INITDB_FLAGS)
    process.run_tool("initdb", initdb, environment=environment, uid=runs_as.uid)
    staging.rename(data_dir)


def _environment() -> dict[str, str]:
    """Ours without PG* (`PGPORT` would move the socket), with a locale that always exists."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _url(scheme: str, sockets: Path, database: str) -> str:
    # The port is named because drivers, too, take a missing one from PGPORT.
    host = quote(str(sockets), safe="")
    return f"{scheme}://postgres@/{quote(database)}?host={host}&port={PORT}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
