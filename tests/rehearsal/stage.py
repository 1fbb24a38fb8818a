"""The compose project under rehearsal: its containers, their health, their end."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .bases import ROOT
from .needs import COMPOSE
from .shell import Failed, Shell
from .waiting import await_that

UP_S = 1800


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine sees it."""

    name: str
    pid: int
    num_restarts: int
    is_well: bool
    address: str


@dataclass(frozen=True, slots=True)
class Stage:
    """`docker-compose` with the committed file and what only a rehearsal changes."""

    shell: Shell
    override: Path

    def compose(self, *words: str | Path) -> str:
        """A compose command with the profile `cpu`. Raises Failed: it did not succeed."""
        return self.shell.run(*self._command(*words))

    def try_compose(self, *words: str | Path) -> str:
        """What a compose command says, whether or not it succeeds."""
        done = self.shell.attempt(*self._command(*words))
        return done.stdout + done.stderr

    def _command(self, *words: str | Path) -> tuple[str | Path, ...]:
        files = ("-f", ROOT / "docker-compose.yml", "-f", self.override)
        return (COMPOSE, *files, "--profile", "cpu", *words)

    def up(self, *names: str) -> float:
        """Start services and wait until all are healthy; seconds that it took."""
        began = time.monotonic()
        flags = ("--detach", "--no-build", "--pull", "never", "--wait", f"--wait-timeout={UP_S}")
        self.compose("up", *flags, *names)
        return time.monotonic() - began

    def down(self) -> float:
        """Remove everything, volumes too; seconds."""
        began = time.monotonic()
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "20")
        left = self.shell.run("docker", "ps", "--all", "--quiet").split()
        left += self.shell.run("docker", "volume", "ls", "--quiet").split()
        left += self.shell.run("docker", "network", "ls", "-q", "--filter", "type=custom").split()
        if left:
            raise Failed(f"left behind by `down --volumes`: {left}")
        return time.monotonic() - began

    def containers(self, service: str) -> list[str]:
        """Names of a service's containers."""
        label = f"label=com.docker.compose.service={service}"
        flags = ("--all", "--filter", label, "--filter", "label=com.docker.compose.oneoff=False")
        return sorted(self.shell.run("docker", "ps", *flags, "--format", "{{.Names}}").split())

    def look(self, name: str) -> Container:
        """A container now."""
        (found,) = json.loads(self.shell.run("docker", "inspect", name))
        state = found["State"]
        health = state.get("Health", {}).get("Status", "healthy")
        places = found["NetworkSettings"]["Networks"].values()
        addresses = [place["IPAddress"] for place in places if place["IPAddress"]]
        return Container(
            name=name,
            pid=state["Pid"],
            num_restarts=found["RestartCount"],
            is_well=state["Running"] and health == "healthy",
            address=addresses[0] if addresses else "",
        )

    def strike(self, name: str, *, within_s: float) -> float:
        """`kill -9` of a container's first process; seconds until its restart is healthy.

        Not `docker kill`: the engine takes that for a person's wish and restarts nothing.
        """
        before = self.look(name)
        os.kill(before.pid, signal.SIGKILL)

        def is_back() -> bool:
            now = self.look(name)
            return now.is_well and now.num_restarts > before.num_restarts

        return await_that(is_back, what=f"{name} is back and healthy", within_s=within_s)

    def query(self, statement: str) -> list[list[str]]:
        """Rows of the database, by `psql` in its container."""
        program = ("psql", "-h", "/run/postgresql", "-U", "etude", "-d", "etude", "-tAF,")
        out = self.compose("exec", "-T", "postgres", *program, "-c", statement)
        return [line.split(",") for line in out.splitlines() if line]
