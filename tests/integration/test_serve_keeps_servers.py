"""`etude serve` on its own PostgreSQL and Valkey, which are killed: they come back, or it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.sampler_app_replica import free_port
from support.waiting import wait_for


@dataclass(frozen=True, slots=True)
class Served:
    """A running `etude serve` and its folder."""

    process: subprocess.Popen[bytes]
    url: str
    data: Path

    def pid_of(self, server: str) -> int:
        """The server's process, as its lock file has it."""
        return int((self.data / f"{server}.lock").read_text() or 0)

    def is_ready(self) -> bool:
        """Whether it answers and has its servers."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5.0, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self, server: str) -> int:
        """SIGKILL; the process it was."""
        pid = self.pid_of(server)
        os.kill(pid, signal.SIGKILL)
        return pid


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve from a new folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETUDE_")}
    port = free_port()
    command = [sys.executable, "-m", "etude_sampler", "serve", "--port", str(port)]
    with (folder / "log").open("ab") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")], env=clean, stdout=output, stderr=output
        )
    try:
        served = Served(process, f"http://127.0.0.1:{port}", folder / "data")
        wait_for(served.is_ready, what="the sampler is ready", timeout_s=60)
        yield served
    finally:
        process.kill()
        process.wait()


def is_gone(pid: int) -> bool:
    """Whether a process is gone, and no zombie."""
    return not Path(f"/proc/{pid}").exists()


def came_back(served: Served, server: str, dead: int) -> bool:
    """Whether another process of the server answers."""
    return served.pid_of(server) not in (0, dead, served.process.pid) and served.is_ready()


def ended(served: Served) -> bool:
    """Whether the service has ended; until then its PostgreSQL is killed whenever it lives."""
    if served.process.poll() is not None:
        return True
    if served.pid_of("postgres") not in (0, served.process.pid):
        with suppress(ProcessLookupError):
            served.kill("postgres")
    return False


def test_a_server_that_dies_comes_back_and_ends_the_service_if_it_dies_again(
    short_folder: Path,
) -> None:
    with serving(short_folder) as served:
        for server in ("redis", "postgres"):
            dead = served.kill(server)
            wait_for(
                lambda: came_back(served, server, dead),  # noqa: B023 - called in this round
                what=f"{server} is back",
                timeout_s=60,
            )
            assert is_gone(dead)
        assert httpx.get(f"{served.url}/v1/runs").json()["items"] == []
        told = [line for line in (short_folder / "log").read_text().splitlines() if "again" in line]
        assert len(told) == 2
        assert told[0].startswith("embedded Valkey (process ")
        assert told[0].endswith(f"its log is {(served.data / 'redis.log').resolve()}")
        assert told[1].startswith("embedded PostgreSQL (process ")
        both = [served.pid_of("redis"), served.pid_of("postgres")]
        wait_for(lambda: ended(served), what="the service ends", timeout_s=60)
        assert served.process.wait() == 1
        last = (short_folder / "log").read_text().splitlines()[-1]
        assert last.startswith("etude: embedded PostgreSQL (process ")
        assert last.endswith(f"its log is {(served.data / 'postgres.log').resolve()}")
        assert all(is_gone(pid) for pid in both)
