"""The child processes: started, started again when they die, stopped in order.

One `Child` a service. `Supervisor.tend` is called from the main thread all the time (a child ends
with the thread that started it, see `child.py`); nothing here waits but `stop`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CHILD = Path(__file__).with_name("child.py")
SHORT_LIFE_S = 15.0
"""A child that ends sooner has failed to start."""
MAX_SHORT_LIVES = 5
"""Failed starts in a row after which the demo gives up."""
LONGEST_PAUSE_S = 8.0


class ChildFailed(Exception):
    """A service that cannot be kept running; the message ends with its log's tail."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a service is started."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    log: Path
    fatal_codes: frozenset[int] = frozenset()
    """Exit codes after which it must not be started again."""


@dataclass(slots=True)
class Child:
    """One service's process, present or past."""

    launch: Launch
    process: subprocess.Popen[bytes] | None = None
    started_at_s: float = 0.0
    start_again_at_s: float = 0.0
    num_restarts: int = 0
    num_short_lives: int = 0
    last_exit: str = ""

    @property
    def name(self) -> str:
        """The service."""
        return self.launch.name

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, in a session of its own: Ctrl-C must reach only the demo."""
        self.launch.log.parent.mkdir(parents=True, exist_ok=True)
        with self.launch.log.open("ab") as log:
            log.write(f"--- {time.strftime('%F %T')} {' '.join(self.launch.command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, str(_CHILD), str(os.getpid()), *self.launch.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.launch.environment),
                cwd=self.launch.cwd,
                start_new_session=True,
            )
        self.started_at_s = time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process lives."""
        if self.process is not None and self.is_running:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill what is left of the process and its group."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log_tail(self, num_lines: int = 12) -> str:
        """The end of its log."""
        try:
            lines = self.launch.log.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  | {line[:200]}" for line in lines[-num_lines:])


@dataclass(slots=True)
class Supervisor:
    """Keeps the services running."""

    say: Callable[[str], None]
    """Told about starts and ends, in a sentence."""
    children: list[Child] = field(default_factory=list)

    def add(self, launch: Launch) -> Child:
        """Start a service and keep it running from now on."""
        child = Child(launch)
        self.children.append(child)
        child.start()
        return child

    def tend(self) -> None:
        """Start again what has died, after a pause that grows with every failed start.

        Raises:
            ChildFailed: it may not, or cannot, be started again.
        """
        now = time.monotonic()
        for child in self.children:
            if child.is_running:
                continue
            if not child.start_again_at_s:
                self._note_end(child, now)
            elif now >= child.start_again_at_s:
                child.start_again_at_s = 0.0
                child.num_restarts += 1
                child.start()
                self.say(f"{child.name} started again")

    def _note_end(self, child: Child, now: float) -> None:
        assert child.process is not None
        code = child.process.returncode
        child.last_exit = _told(code)
        if code in child.launch.fatal_codes:
            raise ChildFailed(
                f"{child.name} ended with {child.last_exit} and must not go on"
                f" ({child.launch.log}):\n{child.log_tail()}"
            )
        is_short = now - child.started_at_s < SHORT_LIFE_S
        child.num_short_lives = child.num_short_lives + 1 if is_short else 0
        if child.num_short_lives >= MAX_SHORT_LIVES:
            raise ChildFailed(
                f"{child.name} ended {MAX_SHORT_LIVES} times soon after its start, last with "
                f"{child.last_exit} ({child.launch.log}):\n{child.log_tail()}"
            )
        pause_s = min(LONGEST_PAUSE_S, 0.5 * 2.0**child.num_short_lives)
        child.start_again_at_s = now + pause_s
        self.say(f"{child.name} died ({child.last_exit}); starting it again")

    def stop(
        self, names: Sequence[str], *, patience_s: float, while_waiting: Callable[[], None]
    ) -> None:
        """End these services: SIGTERM, and SIGKILL to what is still there after `patience_s`."""
        ending = [child for child in self.children if child.name in names]
        self.children = [child for child in self.children if child not in ending]
        for child in ending:
            child.signal(signal.SIGTERM)
        give_up = time.monotonic() + patience_s
        while any(child.is_running for child in ending) and time.monotonic() < give_up:
            while_waiting()
        for child in ending:
            if child.is_running:
                self.say(f"{child.name} did not end in {patience_s:.0f} s and was killed")
            child.kill()


def _told(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
