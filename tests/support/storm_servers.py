"""The processes of a storm: PostgreSQL, Valkey and sampler replicas, each of which may be shot.

Servers live in keepers (`storm_keeper`), so that starting one never holds up this event loop, in
which the proxies and all clients run.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

import httpx
from redis.asyncio import Redis

from .waiting import wait_until

_PR_SET_PDEATHSIG = 1
_START_S = 90.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def family(pid: int) -> list[int]:
    """A process and its descendants; PostgreSQL's sessions are children of the postmaster."""
    found = [pid]
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        found += [one for child in children for one in family(int(child))]
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    """A signal to those that still live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Victim(Protocol):
    """A process that can be killed, started again, stopped and continued."""

    name: str

    @property
    def pid(self) -> int:
        """Its process id."""

    async def start(self) -> None:
        """Start it (again) and wait until it answers."""

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""


async def _spawn(
    command: list[str], *, environment: Mapping[str, str], log: Path, talks: bool
) -> asyncio.subprocess.Process:
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            env=dict(environment),
            stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if talks else output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


@dataclass(slots=True)
class Server:
    """PostgreSQL or Valkey."""

    name: str
    folder: Path
    url: str = ""
    pid: int = 0
    _keeper: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the server; the keeper is started with the first."""
        if self._keeper is None:
            command = [sys.executable, "-m", "support.storm_keeper", self.name, str(self.folder)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            log = self.folder / f"{self.name}-keeper.log"
            self._keeper = await _spawn(command, environment=environment, log=log, talks=True)
        keeper = self._keeper
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.write(b"start\n")
        line = await asyncio.wait_for(keeper.stdout.readline(), _START_S)
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name} did not start: {answer['error']}")
        self.pid, self.url = answer["pid"], answer["url"]

    async def kill(self) -> None:
        """SIGKILL to the server's main process; the keeper buries it at the next start."""
        send([self.pid], signal.SIGKILL)

    async def stop(self) -> None:
        """End the keeper, and the server with it."""
        if self._keeper is not None and self._keeper.stdin is not None:
            send(family(self.pid), signal.SIGCONT)
            self._keeper.stdin.close()
            await asyncio.wait_for(self._keeper.wait(), _START_S)


@dataclass(slots=True)
class Valkey(Server):
    """Valkey, which can also be flushed, filled, and rewound to an older copy."""

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return Path(unquote(self.url.removeprefix("unix://")))

    def client(self) -> Redis:
        """A connection past all proxies."""
        return Redis.from_url(self.url, socket_timeout=30.0)

    def copy(self) -> None:
        """Keep the files as they are now."""
        copy = self.folder / "older-copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder / self.name / "appendonlydir", copy)

    async def _is_gone(self) -> bool:
        return not os.path.lexists(f"/proc/{self.pid}/root/")

    async def rewind(self) -> None:
        """Die, and come back as the older copy, if there is one."""
        await self.kill()
        copy, files = self.folder / "older-copy", self.folder / self.name / "appendonlydir"
        await wait_until(self._is_gone, what="Valkey is gone")
        if copy.exists():
            shutil.rmtree(files)
            shutil.copytree(copy, files)
        await self.start()


@dataclass(slots=True)
class Replica:
    """One `etude serve`."""

    name: str
    port: int
    environment: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def pid(self) -> int:
        """Of the serving process."""
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        """Start it and wait until the process answers; its servers may be away."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ETUDE_")}
        environment = {**kept, **self.environment, "ETUDE_PORT": str(self.port)}
        command = [sys.executable, "-m", "etude_sampler", "serve"]
        self.process = await _spawn(command, environment=environment, log=self.log, talks=False)
        await wait_until(lambda: self.answers("/livez"), what=self.name, timeout_s=_START_S)

    async def answers(self, path: str) -> bool:
        """Whether it answers 200 on a health path."""
        try:
            async with httpx.AsyncClient(timeout=5.0, verify=False) as http:
                url = f"http://127.0.0.1:{self.port}{path}"
                return (await http.get(url)).status_code == 200
        except httpx.TransportError:
            return False

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            send([self.process.pid], signal.SIGKILL)
            await self.process.wait()
