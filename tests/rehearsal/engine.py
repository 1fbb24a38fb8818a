"""A container engine of the rehearsal's own, in one of two places.

To build, it uses the machine's network and changes nothing there: no bridge, no rules, no
forwarding. To run, it gets its usual bridge, but inside a network namespace that goes with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .shell import Failed, Shell, say
from .waiting import await_that

START_S = 60.0
STOP_S = 40.0
_NO_NETWORK: Final = (
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
)


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine keeps what it has."""

    folder: Path

    @property
    def socket(self) -> str:
        """Its address."""
        return f"unix://{self.folder / 'docker.sock'}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for its clients: the classic builder needs no plug-in."""
        return {"DOCKER_HOST": self.socket, "DOCKER_BUILDKIT": "0", "COMPOSE_BAKE": "false"}

    @contextmanager
    def running(self, shell: Shell, *, network: bool) -> Iterator[None]:
        """The engine, up; down at the end, whatever ends it.

        Raises:
            Failed: it does not start.
        """
        words = [
            "dockerd",
            f"--data-root={self.folder / 'data'}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'docker.pid'}",
            f"--host={self.socket}",
            "--oom-score-adjust=0",
            f"--cgroup-parent={self.cgroup}",
            *(() if network else _NO_NETWORK),
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "docker.pid").unlink(missing_ok=True)
        with (self.folder / "engine.log").open("ab") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        try:
            self._await(process, shell)
            yield
        finally:
            self._stop(process)

    @property
    def cgroup(self) -> str:
        """The control group of its containers."""
        return f"/etude-rehearsal-{self.folder.name}"

    def _await(self, process: subprocess.Popen[bytes], shell: Shell) -> None:
        def has_ended_or_answers() -> bool:
            is_up = shell.attempt("docker", "info").returncode == 0
            return is_up or process.poll() is not None

        with contextlib.suppress(Failed):
            await_that(has_ended_or_answers, what="the engine answers", within_s=START_S)
        if shell.attempt("docker", "info").returncode != 0:
            tail = (self.folder / "engine.log").read_text("utf-8", "replace").splitlines()[-15:]
            raise Failed("the engine does not start:\n" + "\n".join(tail))

    @staticmethod
    def _stop(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def remove(self) -> None:
        """Everything that it left: mounts, data, control groups."""
        mounts = Path("/proc/self/mounts").read_text("utf-8").splitlines()
        held = [line.split()[1] for line in mounts if line.split()[1].startswith(str(self.folder))]
        for path in reversed(held):
            subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.remove_cgroups()
        if self.folder.exists():
            say(f"could not remove all of {self.folder}")

    def remove_cgroups(self) -> None:
        """Empty control groups that containers had."""
        name = self.cgroup.removeprefix("/")
        for found in (*Path("/sys/fs/cgroup").glob(f"*/{name}"), Path("/sys/fs/cgroup") / name):
            if found.is_dir():
                children = sorted(found.rglob("*"), key=lambda path: -len(path.parts))
                for path in (*(one for one in children if one.is_dir()), found):
                    try:
                        path.rmdir()
                    except OSError:
                        break
