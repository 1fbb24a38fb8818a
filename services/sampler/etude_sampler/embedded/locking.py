"""Locks on files that die with their holder, so that no crash leaves a stale one.

A server inherits the locked descriptor of its data directory: the lock lasts until the last of its
processes is gone, however its parent ended, and a restart waits for exactly that.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import EmbeddedServerError

POLL_S = 0.02


@dataclass(slots=True)
class FileLock:
    """A held lock; given up when every copy of the descriptor is closed."""

    descriptor: int
    """Open file descriptor, -1 once released."""

    def write_holder(self, pid: int) -> None:
        """Write into the lock file whose process holds it, for messages."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Close our copy; a second call does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def acquire(path: Path, *, wait_s: float, what: str) -> FileLock:
    """Lock a file, in the name of this process.

    Args:
        path: the lock file, created if missing; holds the holder's process id as text.
        wait_s: how long to wait for another holder, in seconds.
        what: what the lock guards, for the message.

    Raises:
        EmbeddedServerError: another process holds the lock after `wait_s`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(POLL_S)
                continue
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise EmbeddedServerError(
                f"{what} is in use by process {holder or 'unknown'} (lock file {path})"
            ) from None
        lock = FileLock(descriptor)
        lock.write_holder(os.getpid())
        return lock
