"""Building our images with the compose file's own instructions, and what they weigh."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .bases import ROOT, python_image
from .needs import COMPOSE
from .shell import Shell, say

OURS = ("sampler", "rollout", "rollout-gpu", "trainer")
"""Services whose images need no registry: all but `engine`, which starts from vLLM's."""
WHEELS_PORT = 18329
"""Fixed, so that the layers of a former rehearsal fit."""


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the rehearsal's output is for people."""


@contextmanager
def torch_arguments() -> Iterator[str]:
    """What `pip install torch` is told in the builds: a folder of this machine's, if pip has one.

    Builds see no folder of this machine; with its network they reach a server on its loopback.
    """
    given = os.environ.get("ETUDE_TORCH_ARGS", "")
    folder = os.environ.get("PIP_FIND_LINKS", "")
    if given or not Path(folder or "/nowhere").is_dir():
        yield given
        return
    handler = functools.partial(_Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", WHEELS_PORT), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"-f http://127.0.0.1:{WHEELS_PORT}/ --trusted-host 127.0.0.1"
        finally:
            server.shutdown()
            thread.join()


def build_images(shell: Shell, override: Path) -> None:
    """Build them, in the machine's network."""
    override.write_text(json.dumps({"services": {n: _in_host_network() for n in OURS}}), "utf-8")
    with torch_arguments() as arguments:
        for name in OURS:
            say(f"image of {name}")
            files = ("-f", ROOT / "docker-compose.yml", "-f", override)
            shell.run(COMPOSE, *files, "build", "--quiet", name, ETUDE_TORCH_ARGS=arguments)


def _in_host_network() -> dict[str, object]:
    return {"build": {"network": "host"}}


def sizes(shell: Shell) -> list[tuple[str, int, int]]:
    """Image, bytes in all, bytes on top of its base."""
    base = _size(shell, python_image())
    listed = shell.run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "etude-*")
    found = [(name, _size(shell, name)) for name in sorted(listed.split())]
    return [(name, size, size - base) for name, size in found]


def _size(shell: Shell, image: str) -> int:
    return int(shell.run("docker", "image", "inspect", "--format", "{{.Size}}", image))
