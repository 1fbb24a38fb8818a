"""docker-compose.yml as Compose itself reads it, all profiles, without an engine."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.tree import ROOT

COMPOSE_FILE = ROOT / "docker-compose.yml"
TOOLS = Path(sys.executable).parent
Rendered = dict[str, Any]


def run_compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`docker-compose` with no variable of this machine and the committed defaults."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ETUDE_", "COMPOSE_"))}
    return subprocess.run(
        [str(TOOLS / "docker-compose"), "--env-file", ".env.example", *arguments],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


@cache
def rendered() -> Rendered:
    """The whole file, merged and interpolated."""
    done = run_compose("--profile", "*", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    document: Rendered = json.loads(done.stdout)
    return document


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, continuation lines joined."""

    word: str
    rest: str


def dockerfile(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, comments left out."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [Instruction(word.upper(), rest) for word, rest in pairs]


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the rendered file."""

    name: str
    spec: Rendered

    @property
    def is_ours(self) -> bool:
        """Whether its image is built from this repository."""
        return "build" in self.spec

    @property
    def is_job(self) -> bool:
        """Whether it runs once and ends."""
        return bool(self.spec["restart"] == "no")

    @property
    def instructions(self) -> list[Instruction]:
        """Its Dockerfile."""
        return dockerfile(ROOT / self.spec["build"]["dockerfile"])

    @property
    def words(self) -> list[str]:
        """Program and arguments, the entry point of our images left out."""
        entry = self.spec.get("entrypoint") or []
        return [word for word in [*entry, *self.spec["command"]] if word != "with-secrets"]

    @property
    def environment(self) -> dict[str, str]:
        """Variables inside the container."""
        return dict(self.spec.get("environment") or {})

    @property
    def networks(self) -> set[str]:
        """Networks it is a member of."""
        return set(self.spec["networks"])

    @property
    def health(self) -> str:
        """The health check as one line of a shell."""
        return shlex.join(self.spec["healthcheck"]["test"])


def services() -> dict[str, Service]:
    """All services by name."""
    return {name: Service(name, spec) for name, spec in rendered()["services"].items()}
