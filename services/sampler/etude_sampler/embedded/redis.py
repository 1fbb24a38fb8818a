"""One Valkey (or, for the test matrix, Redis) server on a Unix socket, without a TCP port.

Called by `serve` and by the tests. The flavour decides which program runs; both get the same flags.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from . import binaries, locking, process
from .binaries import Flavour
from .process import Launch, RunningServer, unix_connection
from .sockets import socket_folder

SOCKET_NAME = "redis.sock"
Appendfsync = Literal["always", "everysec"]
NAMES: dict[Flavour, str] = {"valkey": "Valkey", "redis": "Redis"}


def start_redis(
    data_dir: Path,
    *,
    durable: bool,
    flavour: Flavour = "valkey",
    appendfsync: Appendfsync = "always",
) -> RunningServer:
    """Start a server on a data directory, new or used, and wait until it answers.

    Beside `data_dir` appear `<name>.lock` and `<name>.log`. Waits a while for a server that is
    still leaving the same directory.

    Args:
        data_dir: created if missing.
        durable: keep an append-only file; without it a restart is empty.
        flavour: which server.
        appendfsync: with `durable`, when the file reaches the disk: before every reply, or each
            second (a lost machine may lose that second).

    Raises:
        EmbeddedServerError: no binary, directory in use, or the server failed.
    """
    process.require_main_thread()
    program = binaries.redis_server(flavour)
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = socket_folder(data_dir, socket_name=SOCKET_NAME) / SOCKET_NAME
    log = process.log_path(data_dir)
    persistence = (
        ("--appendonly", "yes", "--appendfsync", appendfsync) if durable else ("--appendonly", "no")
    )
    launch = Launch(
        name=program.name,
        command=(
            *(str(program), "--port", "0", "--unixsocket", str(socket)),
            *("--unixsocketperm", "700", "--dir", str(data_dir), "--save", ""),
            *("--logfile", str(log), "--daemonize", "no", *persistence),
        ),
        data_dir=data_dir,
        environment=os.environ,
        stop_signal=signal.SIGTERM,
        is_ready=partial(_answers_ping, socket),
        poll_s=0.005,
    )
    lock = locking.acquire(
        process.lock_path(data_dir),
        wait_s=process.LOCK_WAIT_S,
        what=f"Redis data directory {data_dir}",
    )
    try:
        return RunningServer(
            name=NAMES[flavour],
            url=f"unix://{quote(str(socket))}",
            data_dir=data_dir,
            log=log,
            process=process.spawn(launch, lock=lock),
            stop_signal=launch.stop_signal,
        )
    finally:
        lock.release()  # the server has its own copy


def _answers_ping(socket: Path) -> bool:
    """Whether the server says PONG; while it loads its file it answers with an error."""
    with unix_connection(socket) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
