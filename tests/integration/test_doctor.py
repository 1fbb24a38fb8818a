"""`etude doctor` names each cause, on real servers that are really unwell."""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from typer.testing import CliRunner

from etude_sampler.cli import app
from etude_sampler.database_url import libpq_url
from etude_sampler.doctor.database import SKEW_S, database, skew
from etude_sampler.doctor.finding import Finding, Level
from etude_sampler.doctor.machine import disk, port
from etude_sampler.doctor.redis import commands, redis
from etude_sampler.doctor.services import engine, sampler
from etude_sampler.embedded import EmbeddedServerError, RunningServer
from etude_sampler.embedded.postgres import PostgresServer, start_postgres
from support.live_sampler import live_sampler


def by_name(found: list[Finding]) -> dict[str, Finding]:
    """Findings by what they are about, the worst of each."""
    order = list(Level)
    return {one.name: one for one in sorted(found, key=lambda one: order.index(one.level))}


def bad_ones(found: list[Finding]) -> set[str]:
    """What does not work."""
    return {one.name for one in found if one.level is Level.FAIL}


def run(*words: str, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The command's exit code and findings by name."""
    done = CliRunner().invoke(app, ["doctor", "--json", *words], env=environment)
    document = json.loads(done.stdout)
    assert document["ok"] is (done.exit_code == 0)
    return done.exit_code, {one["name"]: one for one in document["findings"]}


def test_a_machine_that_is_well(
    database_url: str, redis_server: RunningServer, free_port: int
) -> None:
    urls = {"ETUDE_DATABASE_URL": database_url, "ETUDE_REDIS_URL": redis_server.url}
    code, found = run(**urls, ETUDE_PORT=str(free_port))
    assert code == 0, found
    assert {"postgres", "schema", "redis", "commands", "eviction", "clock", "port"} <= found.keys()
    assert found["durability"]["level"] == Level.WARN, "test servers are fast, not safe"


@pytest.fixture
def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def test_nobody_answers(free_port: int) -> None:
    nowhere = f"127.0.0.1:{free_port}"
    code, found = run(
        ETUDE_DATABASE_URL=f"postgresql://etude@{nowhere}/etude",
        ETUDE_REDIS_URL=f"redis://{nowhere}",
        ETUDE_SAMPLER_URL=f"http://{nowhere}",
        ETUDE_VLLM_URL=f"http://{nowhere}",
    )
    assert code == 1
    for name in ("postgres", "redis", "sampler", "engine"):
        assert found[name]["level"] == Level.FAIL
        assert found[name]["mend"]
    assert "nobody listens" in found["postgres"]["detail"]


def test_a_wrong_setting_and_half_a_configuration(database_url: str) -> None:
    code, found = run(ETUDE_PORT="99999999")
    assert (code, found["settings"]["detail"][:11]) == (1, "ETUDE_PORT:")
    code, found = run(ETUDE_DATABASE_URL="mysql://etude@db/etude")
    assert code == 1
    assert "is not PostgreSQL" in found["settings"]["detail"]
    code, found = run(ETUDE_DATABASE_URL=database_url)
    assert code == 1
    assert "only one of the two" in found["settings"]["detail"]


@contextmanager
def with_password(folder: Path) -> Iterator[PostgresServer]:
    """A server that asks for one."""
    server = start_postgres(folder, durable=True)
    try:
        with psycopg.connect(server.dsn, autocommit=True) as session:
            session.execute("CREATE ROLE etude LOGIN PASSWORD 'right'")
            row = session.execute("SHOW hba_file").fetchone()
            assert row is not None
            rules = Path(row[0])
            before = rules.read_text()
            rules.write_text("local all etude scram-sha-256\n" + before)
            session.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        server.stop()


def test_passwords_databases_and_schemas(short_folder: Path) -> None:
    with with_password(short_folder / "pg") as server:
        url = server.dsn.replace("postgres@", "etude{}@")
        for password, cause in ((":wrong", "wrong user or password"), ("", "asks for a password")):
            (found,) = database(url.format(password), connections=8)
            assert (found.level, cause in found.detail) == (Level.FAIL, True), found
        (found,) = database(server.dsn_of("nothing"), connections=8)
        assert "no such database" in found.detail
        looked = by_name(database(server.dsn, connections=8))
        assert bad_ones(list(looked.values())) == {"schema"}
        assert looked["schema"].mend == "etude migrate"
        assert looked["durability"].level is Level.OK
        assert by_name(database(server.dsn, connections=10**6))["connections"].level is Level.WARN


def test_a_newer_schema_is_not_ours(database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as session:
        session.execute("UPDATE alembic_version SET version_num = '9999'")
    found = by_name(database(database_url, connections=8))
    assert "upgrade Etude" in found["schema"].detail


def test_redis_without_a_command_or_with_eviction(redis_server: RunningServer) -> None:
    url = redis_server.url
    with Redis.from_url(url) as client:
        client.acl_setuser(
            "few", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all"]
        )
        limited = url.replace("unix://", "unix://few:pw@")
        try:
            assert bad_ones(redis(limited)) == set()
            client.acl_setuser("few", enabled=True, commands=["-evalsha", "-xadd"])
            looked = by_name(redis(limited))
            assert looked["commands"].detail == "not to be had: EVALSHA, XADD"
            (wrong,) = redis(url.replace("unix://", "unix://few:no@"))
            assert wrong.detail.startswith("wrong password")
            client.acl_setuser("few", enabled=True, commands=["-info"])
            (blind,) = redis(limited)
            assert "may not look" in blind.detail
            client.config_set("maxmemory-policy", "allkeys-lru")
            assert bad_ones(redis(url)) == {"eviction"}
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1kb")
            assert by_name(redis(url))["memory"].level is Level.WARN
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
            client.acl_deluser("few")


def test_the_commands_are_those_of_the_scripts() -> None:
    assert {"HSET", "ZADD", "XADD", "EVALSHA", "ZPOPMIN"} <= commands()


def test_disk_and_port(tmp_path: Path) -> None:
    assert disk(tmp_path / "not" / "yet").level is Level.OK
    assert disk(tmp_path, min_free=1 << 62).detail.startswith("full")
    assert disk(tmp_path, min_free=0, low_free=1 << 62).level is Level.WARN
    assert "ETUDE_HOST" in port("192.0.2.1", 0).mend, "an address of no machine"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk in memory; skipped where none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no right to mount a disk in memory")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disks(short_folder: Path) -> None:
    """Of files, of PostgreSQL and of Redis: full by bytes, and by the number of files."""
    with small_disk(short_folder / "inodes", "size=1g,nr_inodes=40") as folder:
        found = disk(folder, variable="ETUDE_WEIGHTS_ROOT")
        assert (found.level, "more files" in found.detail) == (Level.FAIL, True), found
        assert "ETUDE_WEIGHTS_ROOT" in found.mend
        with pytest.raises(EmbeddedServerError) as refused:
            start_postgres(folder / "pg", durable=True)
        assert "No space left on device" in str(refused.value)
        assert "\n" not in str(refused.value)
    with small_disk(short_folder / "disk", "size=140m") as folder:
        server = start_postgres(folder / "pg", durable=True)
        try:
            assert by_name(database(server.dsn, connections=8))["database disk"].level is Level.OK
            with (folder / "ballast").open("wb") as ballast:
                ballast.write(bytes(shutil.disk_usage(folder).free - 300_000))
            found = by_name(database(server.dsn, connections=8))["database disk"]
            assert (found.level, "No space left" in found.detail) == (Level.FAIL, True), found
        finally:
            server.stop()


class Stranger(socketserver.BaseRequestHandler):
    """Answers everybody as a web server would that knows nothing of us."""

    def handle(self) -> None:
        """One answer for each connection."""
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n<html>\n\n\n")


def test_another_server_at_the_address() -> None:
    """Whatever answers there, it is not taken for what was looked for."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, args=(0.01,), daemon=True).start()
        nowhere = f"127.0.0.1:{stranger.server_address[1]}"
        (seen,) = redis(f"redis://{nowhere}")
        assert "is not Redis" in seen.detail
        (seen,) = database(f"postgresql://e@{nowhere}/e", connections=8)
        assert "is not PostgreSQL" in seen.detail
        (seen,) = sampler(f"http://{nowhere}", None)
        assert ("is not a sampler" in seen.detail, "\n" in seen.detail) == (True, False)
        assert "is not vLLM" in engine(f"http://{nowhere}").detail
        found = port("127.0.0.1", int(nowhere.rpartition(":")[2]))
        assert (found.level, "ETUDE_PORT" in found.mend) == (Level.FAIL, True), found
        stranger.shutdown()
    assert engine("127.0.0.1:1").mend == "begin ETUDE_VLLM_URL with http://"


def test_clocks() -> None:
    assert skew("X", 100.0, 99.0, 101.0).level is Level.OK
    for told in (99.0 - SKEW_S - 0.5, 101.0 + SKEW_S + 0.5):
        found = skew("X", told, 99.0, 101.0)
        assert (found.level, "differ by 2.5 s" in found.detail) == (Level.WARN, True)


def test_a_sampler_that_runs(database_url: str, valkey: RunningServer) -> None:
    with live_sampler(database_url, valkey.url) as url:
        urls = {"ETUDE_DATABASE_URL": database_url, "ETUDE_REDIS_URL": valkey.url}
        code, found = run(**urls, ETUDE_SAMPLER_URL=url, ETUDE_PORT=url.rsplit(":", 1)[1])
        assert code == 0, found
        assert found["contract"]["level"] == Level.OK
        assert "a sampler" in found["port"]["detail"]
        code, found = run("--engine-url", url, **urls, ETUDE_SAMPLER_URL=url)
        assert found["engine"]["level"] == Level.FAIL, "/health is the sampler's, too"
        assert "is not vLLM" in found["engine"]["detail"]


@pytest.mark.parametrize("url", ["postgresql://a@127.0.0.1/x?foo=1", "postgresql://a@h:abc/x"])
def test_an_address_that_is_none_is_a_finding(url: str) -> None:
    assert [one.level for one in database(url, connections=1)] == [Level.FAIL]


def test_no_password_is_shown() -> None:
    url = "http://me:secret@127.0.0.1:1"
    found = [*sampler(url, None), engine(url)]
    assert {one.level for one in found} == {Level.FAIL}
    assert not any("secret" in one.detail for one in found)
