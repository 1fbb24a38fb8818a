"""One server process: started, awaited, stopped, and gone when its parent is gone.

Used by `postgres` and `redis`, which know the flags; this module knows processes only.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import EmbeddedServerError, log_tail
from .locking import FileLock

LOCK_WAIT_S = 15.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is needed to start one server and to know that it answers."""

    name: str
    command: Sequence[str]
    data_dir: Path
    environment: Mapping[str, str]
    stop_signal: signal.Signals
    is_ready: Callable[[], bool]
    """Whether the server answers; called in a loop, an OSError counts as no."""
    poll_s: float
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server that belongs to this process."""

    name: str
    """Of the program, for people."""
    url: str
    """Address for the drivers: `postgresql+asyncpg://...` or `unix://...`."""
    data_dir: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    stop_signal: signal.Signals = field(repr=False)

    @property
    def pid(self) -> int:
        """Process id of the server (of PostgreSQL's postmaster)."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Stop the server in order and wait; a second call does nothing.

        Raises:
            EmbeddedServerError: it did not end in `STOP_TIMEOUT_S` and was killed.
        """
        if not self.alive:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise EmbeddedServerError(
                f"server {self.pid} did not stop and was killed{log_tail(self.log)}"
            ) from None

    def kill(self) -> None:
        """Kill the server at once (SIGKILL), as a crash would, and wait until it is gone."""
        if self.alive:
            self.process.kill()
        self.process.wait()


def lock_path(data_dir: Path) -> Path:
    """The lock file of a data directory: beside it, because `initdb` wants it empty."""
    return data_dir.with_name(data_dir.name + ".lock")


def log_path(data_dir: Path) -> Path:
    """The log of the server with this data directory."""
    return data_dir.with_name(data_dir.name + ".log")


class LastingThread(threading.Thread):
    """A thread that stops what it started before it ends: it may start servers, too."""


def require_main_thread() -> None:
    """Refuse to start a server that would silently die with a worker thread.

    Raises:
        EmbeddedServerError: the caller is neither the main thread nor a lasting one.
    """
    current = threading.current_thread()
    if current is not threading.main_thread() and not isinstance(current, LastingThread):
        raise EmbeddedServerError("start embedded servers from the main thread: they end with it")


def spawn(launch: Launch, *, lock: FileLock) -> subprocess.Popen[bytes]:
    """Start a server that inherits the lock of its data directory, and wait until it answers.

    The server gets a session of its own, so that Ctrl-C reaches only us and we stop it in order;
    if we are killed, the kernel sends it `stop_signal` (Linux).

    Raises:
        EmbeddedServerError: it exited or did not answer in time; the message ends with its log.
    """
    log = log_path(launch.data_dir)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*launch.command],
            env=dict(launch.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(lock.descriptor,),
            preexec_fn=_die_with_parent(launch.stop_signal),
            user=launch.uid,
            group=launch.uid,
            extra_groups=None if launch.uid is None else [],
        )
    lock.write_holder(process.pid)
    try:
        _await_ready(launch, process)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def run_tool(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], uid: int | None
) -> None:
    """Run a helper program such as `initdb` to its end.

    Raises:
        EmbeddedServerError: it failed; the message holds what it says of the cause.
    """
    done = subprocess.run(
        [*command],
        env=dict(environment),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
        causes = [line for line in lines if re.search(r"\b(FATAL|PANIC|error):", line)]
        raise EmbeddedServerError(f"{name} failed: {'; '.join(causes or lines[-5:])}")


def unix_connection(path: Path, *, timeout_s: float = 2.0) -> socket.socket:
    """A connected Unix socket; an OSError while nobody listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        raise
    return connection


def _await_ready(launch: Launch, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    log = log_path(launch.data_dir)
    while not _answers(launch):
        code = process.poll()
        if code is not None:
            raise EmbeddedServerError(f"{launch.name} exited with code {code}{log_tail(log)}")
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"{launch.name} did not answer in {START_TIMEOUT_S:.0f} s{log_tail(log)}"
            )
        time.sleep(launch.poll_s)


def _answers(launch: Launch) -> bool:
    try:
        return launch.is_ready()
    except OSError:
        return False


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What runs between fork and exec: ask the kernel for a signal when the parent ends."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the request
            os._exit(1)

    return ask
