"""The embedded pair of `etude serve`: what it keeps, whom it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from etude_sampler.embedded import EmbeddedServerError, start_embedded
from support.waiting import wait_for

OWNER = Path(__file__).parent.parent / "support" / "embedded_owner.py"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that owns a pair, and what it told about it."""

    process: subprocess.Popen[str]
    postgres: int
    redis: int
    dsn: str
    redis_url: str


@contextmanager
def owner_of(root: Path) -> Iterator[Owner]:
    """Another process that serves from `root`; killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, str(OWNER), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield Owner(process, **json.loads(process.stdout.readline()))
        finally:
            process.kill()


def running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def write_both(dsn: str, redis_url: str, value: int) -> None:
    """Leave a value in both servers."""
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        connection.execute("INSERT INTO kept VALUES (%s)", (value,))
    with Redis.from_url(redis_url) as client:
        client.rpush("kept", value)


def read_both(dsn: str, redis_url: str) -> tuple[list[int], list[int]]:
    """The values left in both servers, in order."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT value FROM kept ORDER BY value").fetchall()
    with Redis.from_url(redis_url) as client:
        kept = client.lrange("kept", 0, -1)
    return [row[0] for row in rows], [int(value) for value in kept]


def test_a_restart_keeps_the_data(short_folder: Path) -> None:
    for value in (1, 2):
        with start_embedded(short_folder) as pair:
            write_both(pair.postgres.dsn_of("etude"), pair.redis_url, value)
            kept = read_both(pair.postgres.dsn_of("etude"), pair.redis_url)
        assert kept == (list(range(1, value + 1)),) * 2


def test_stopping_twice_is_harmless_and_frees_the_folder(short_folder: Path) -> None:
    pair = start_embedded(short_folder)
    pair.stop()
    pair.stop()
    assert not pair.postgres.alive
    assert not pair.redis.alive
    start_embedded(short_folder).stop()


def test_a_second_start_on_the_same_folder_names_the_first(short_folder: Path) -> None:
    with owner_of(short_folder) as owner:
        with pytest.raises(EmbeddedServerError, match=rf"in use by process {owner.process.pid}\b"):
            start_embedded(short_folder)
        assert running(owner.postgres)
        assert running(owner.redis)


def test_the_same_process_cannot_start_twice_either(short_folder: Path) -> None:
    with (
        start_embedded(short_folder),
        pytest.raises(EmbeddedServerError, match=rf"in use by process {os.getpid()}\b"),
    ):
        start_embedded(short_folder)


def test_killing_the_owner_ends_both_servers_and_loses_nothing(short_folder: Path) -> None:
    with owner_of(short_folder) as owner, psycopg.connect(owner.dsn):  # an open session, too
        write_both(owner.dsn, owner.redis_url, 7)
        owner.process.kill()
        wait_for(lambda: not running(owner.redis), what="Valkey gone", timeout_s=5)
        wait_for(lambda: not running(owner.postgres), what="PostgreSQL gone", timeout_s=5)
    with start_embedded(short_folder) as pair:
        assert read_both(pair.postgres.dsn_of("etude"), pair.redis_url) == ([7], [7])


def test_a_start_right_after_a_kill_waits_for_the_old_servers(short_folder: Path) -> None:
    with owner_of(short_folder) as owner:
        write_both(owner.dsn, owner.redis_url, 3)
        owner.process.kill()
        owner.process.wait()
        with start_embedded(short_folder) as pair:
            assert read_both(pair.postgres.dsn_of("etude"), pair.redis_url) == ([3], [3])
            assert {pair.postgres.pid, pair.redis.pid}.isdisjoint({owner.postgres, owner.redis})


def test_ctrl_c_reaches_us_and_not_the_servers(short_folder: Path) -> None:
    with start_embedded(short_folder) as pair:
        assert os.getsid(pair.postgres.pid) != os.getsid(0)
        assert os.getsid(pair.redis.pid) != os.getsid(0)


def test_a_worker_thread_is_refused(short_folder: Path) -> None:
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(EmbeddedServerError, match="main thread"),
    ):
        pool.submit(start_embedded, short_folder).result()


def test_a_failed_pair_leaves_no_server_behind(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_SERVER_BIN", "/nowhere/redis-server")
    with pytest.raises(EmbeddedServerError, match="REDIS_SERVER_BIN"):
        start_embedded(short_folder)
    monkeypatch.delenv("REDIS_SERVER_BIN")
    start_embedded(short_folder).stop()
