"""Child processes of a test: started, watched, restarted, and never left behind.

A child dies with this process even if it is killed (`PR_SET_PDEATHSIG`); start children from the
main thread only, for the kernel ties them to the thread that made them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_RESTART_PAUSE_S = 1.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Child:
    """One service: its command, environment and log."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    num_restarts: int = 0
    stopping: bool = False
    died_at: float | None = field(default=None)

    def start(self) -> None:
        """Start the process, its output appended to the log."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.died_at = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def watch(self) -> None:
        """Start it again if it died by itself."""
        if self.stopping or self.alive or self.process is None:
            return
        now = time.monotonic()
        if self.died_at is None:
            self.died_at = now
        elif now - self.died_at >= _RESTART_PAUSE_S:
            self.num_restarts += 1
            self.start()

    def stop(self, *, patience_s: float) -> None:
        """Ask it to end, wait, then insist."""
        self.stopping = True
        if self.process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            if self.process.poll() is not None:
                return
            self.process.send_signal(sign)
            try:
                self.process.wait(timeout=patience_s)
            except subprocess.TimeoutExpired:
                continue

    def tail(self, num_lines: int = 15) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-num_lines:])
