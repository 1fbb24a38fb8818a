"""Sampler replicas in processes of their own, `etude serve` on configured servers, to be killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from .waiting import wait_until


@dataclass(slots=True)
class Replica:
    """A running `etude serve`."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """SIGKILL, as the machine's memory killer would."""
        self.process.kill()
        self.process.wait(10)

    async def is_ready(self) -> bool:
        """Whether it answers and has its servers."""
        assert self.process.poll() is None, "the replica ended"
        try:
            async with httpx.AsyncClient(timeout=2.0, verify=False) as http:
                return (await http.get(f"{self.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def replica(
    database_url: str,
    redis_url: str,
    *,
    log: Path,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Replica]:
    """Start one and wait until it is ready; killed at the end. What it says goes to `log`.

    The caller's event loop runs meanwhile: a fault proxy may be in it.
    """
    chosen = port or free_port()
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ETUDE_")},
        "ETUDE_DATABASE_URL": database_url,
        "ETUDE_REDIS_URL": redis_url,
        "ETUDE_PORT": str(chosen),
        "ETUDE_LOG_LEVEL": "warning",
        **(environment or {}),
    }
    command = [sys.executable, "-m", "etude_sampler", "serve"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
    made = Replica(f"http://127.0.0.1:{chosen}", process)
    try:
        await wait_until(made.is_ready, what=f"replica on {made.url}; see {log}", timeout_s=60.0)
        yield made
    finally:
        made.kill()
