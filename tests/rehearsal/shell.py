"""Running commands: echoed, with their output in the rehearsal's log, and shown when they fail."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 40


class Failed(Exception):
    """The rehearsal found something wrong; the message is all that is shown."""


def say(text: str) -> None:
    """A line for the person who watches."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@dataclass(frozen=True, slots=True)
class Shell:
    """Commands with one environment and one log."""

    folder: Path
    """Working directory."""
    log: Path
    environment: Mapping[str, str]

    def run(self, *words: str | Path, **more: str) -> str:
        """Standard output of a command that must succeed; keywords are more variables.

        Raises:
            Failed: it did not; with the end of what it said.
        """
        done = self.attempt(*words, **more)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).splitlines()[-TAIL_LINES:]
            text = "\n".join(said)
            raise Failed(f"exit code {done.returncode}: {shlex.join(map(str, words))}\n{text}")
        return done.stdout

    def attempt(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """A command that may fail."""
        command = [str(word) for word in words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"+ {shlex.join(command)}\n{done.stdout}{done.stderr}")
        return done
