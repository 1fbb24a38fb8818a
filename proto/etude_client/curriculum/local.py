"""A sampler of this process's own, for notebooks and scripts: the real one, on its own servers.

`Curriculum.local` uses it. Two curricula of one process and folder share a sampler.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

LOG_BYTES = 1 << 20
"""A longer log is begun anew (our choice)."""
START_S = 120.0
"""Longest time a start may take: a first one unpacks and migrates servers (our choice)."""
STOP_S = 30.0
TAIL_CHARS = 2000


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    url: str
    owner: int
    """Process id of whoever started it: its forks must not end it."""
    num_users: int = 0


class LocalSampler:
    """One user of a running sampler."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self._folder = folder

    def stop(self) -> None:
        """Stop using it; the last user ends it."""
        with _lock:
            running = _by_folder.get(self._folder)
            if running is None:
                return
            running.num_users -= 1
            if running.num_users > 0:
                return
            del _by_folder[self._folder]
        _end(running)


_lock = threading.Lock()
_by_folder: dict[Path, _Running] = {}


def start_local(directory: Path) -> LocalSampler:
    """Start a sampler with its data in `directory`, or share the one that this process started.

    Raises:
        ValueError: the package `etude-sampler` is not installed.
        RuntimeError: it does not start.
        OSError: the directory cannot be written.
    """
    folder = directory.resolve()
    with _lock:
        running = _by_folder.get(folder)
        if running is None or running.process.poll() is not None:
            running = _start(folder)
            _by_folder[folder] = running
        running.num_users += 1
        return LocalSampler(folder, running.url)


def _start(folder: Path) -> _Running:
    if importlib.util.find_spec("etude_sampler") is None:
        raise ValueError(
            "Curriculum.local starts a sampler, and the package etude-sampler is not installed "
            "here: install it, or give the url of one to Curriculum.create"
        )
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "local-sampler.log"
    begin = log.stat().st_size if log.exists() else 0
    if begin > LOG_BYTES:
        log.unlink()  # whoever still writes to it goes on writing to what is no longer there
        begin = 0
    port = _free_port()
    serve = ["-m", "etude_sampler", "serve", "--data-dir", str(folder), "--port", str(port)]
    supervise = str(Path(__file__).with_name("supervise.py"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, supervise, sys.executable, *serve],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = _Running(process, f"http://127.0.0.1:{port}", os.getpid())
    try:
        is_ready = _wait_ready(running)
    except BaseException:  # an interrupt, say
        _end(running)
        raise
    if not is_ready:
        _end(running)
        tail = log.read_bytes()[begin:].decode(errors="replace")[-TAIL_CHARS:].strip()
        raise RuntimeError(f"the sampler did not start; the end of {log}:\n{tail}")
    return running


def _wait_ready(running: _Running) -> bool:
    import httpx  # a third of a second, for those who start a sampler only

    until_s = time.monotonic() + START_S
    with httpx.Client(trust_env=False) as client:
        while running.process.poll() is None and time.monotonic() < until_s:
            try:
                if client.get(f"{running.url}/readyz", timeout=5.0).is_success:
                    return True
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
    return False


def _end(running: _Running) -> None:
    if running.owner != os.getpid():
        return
    try:
        # A signal, for another process may hold the pipe's other end open. One: two mean haste.
        running.process.terminate()
        try:
            running.process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            running.process.terminate()
            running.process.wait(timeout=STOP_S)
    finally:
        if running.process.stdin is not None:
            running.process.stdin.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _leave_to_parent() -> None:
    """In a forked child: the samplers are the parent's, and must end with it, not with the child.

    A child that kept the pipe open would keep the sampler of a killed parent alive.
    """
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    for running in _by_folder.values():
        if running.process.stdin is not None:
            running.process.stdin.close()
    _by_folder.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@atexit.register
def _end_all() -> None:
    with _lock:
        left = list(_by_folder.values())
        _by_folder.clear()
    for running in left:
        _end(running)
