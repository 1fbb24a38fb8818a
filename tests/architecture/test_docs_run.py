"""The blocks of the pages that are marked `<!-- run -->`, as they stand, against `etude serve`."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import httpx
import pytest
from typer.testing import CliRunner

from etude_client import EtudeClient
from etude_sampler.cli import app
from support.blocks import Block, blocks_of
from support.compose import TOOLS
from support.markdown import pages
from support.waiting import wait_for

LATE = ("docs/how-to/curriculum-only.md", "docs/how-to/secure.md")
"""Last: one makes another run called `mine`, from the other on the sampler asks for a key."""
TASKS = "".join(
    json.dumps(
        {
            "messages": [{"role": "user", "content": f"What is {one} + {one}? Use the tool."}],
            "tools": [{"name": "add", "parameters": {"type": "object", "properties": {}}}],
            "calls": [{"name": "add", "arguments": {"a": one, "b": one}}],
        }
    )
    + "\n"
    for one in range(40)
)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who follows the pages: a folder with `.venv` and `tasks.jsonl`, and a sampler."""

    url: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """The commands of .venv are on the path."""
        path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "ETUDE_SAMPLER_URL": self.url, "PATH": path, "COLUMNS": "200"}

    def run(self, block: Block) -> str:
        """What a block prints; everything in it must succeed."""
        plain = block.plain_commands() if block.language == "bash" else None
        if plain is not None:
            return "".join(self.call(words, block.where) for words in plain)
        bash = ["bash", "-euo", "pipefail", "-c", block.body]
        python = [str(TOOLS / "python"), "-c", block.body]
        done = subprocess.run(
            bash if block.language == "bash" else python, cwd=self.folder, check=False,
            env=self.environment(), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.where}: {done.stdout}{done.stderr}"
        return done.stdout

    def call(self, words: list[str], where: str) -> str:
        """What one command of `etude` prints, in this process."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(app, words, env=self.environment())
        finally:
            os.chdir(before)
        assert done.exit_code == 0, f"{where}: etude {shlex.join(words)}: {done.output}"
        return done.stdout


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """`etude serve` with its own servers, in a folder of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # Directly under /tmp: pytest's own folders are too deep for socket paths.
    folder = Path(tempfile.mkdtemp(prefix="etude-docs-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / ".venv").symlink_to(TOOLS.parent)
    (folder / "tasks.jsonl").write_text(TASKS, encoding="utf-8")
    for name in [name for name in os.environ if name.startswith("ETUDE_")]:
        monkeypatch.delenv(name)
    words = [str(TOOLS / "etude"), "serve", "--port", str(port), "--json"]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    url = f"http://127.0.0.1:{port}"
    assert told == {"url": url, "embedded": True, "workers": 1}

    def is_ready() -> bool:
        assert process.poll() is None, "etude serve ended"
        try:
            return httpx.get(f"{url}/readyz").is_success
        except httpx.TransportError:
            return False

    try:
        wait_for(is_ready, what="etude serve is ready", timeout_s=120)
        yield Reader(url, folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        assert process.stdout.read() == b"", "with --json there is one object and nothing else"
        process.stdout.close()
        rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
def test_what_is_marked_to_run_runs(reader: Reader) -> None:
    """One server for all pages, as one reader would have it: the README first, keys last."""
    marked = {
        one.name: [block for block in blocks_of(one) if block.mark == "run"] for one in pages()
    }
    early = sorted(name for name in marked if marked[name] and name not in LATE)
    names = [*early, *LATE]
    assert names[0] == "README.md"
    said = {"README.md": [reader.run(block) for block in marked["README.md"]]}
    check_batch(reader, said["README.md"][0])
    check_subtasks(reader)
    said |= {name: [reader.run(block) for block in marked[name]] for name in names[1:]}
    check_learning(said[LATE[0]][0])
    assert said["docs/how-to/replay.md"][0].count("same: every batch is what") == 3
    assert "again  version 0  imported" in said["docs/how-to/backup.md"][0]
    assert said["docs/how-to/time-travel.md"][2].splitlines()[2].startswith(("identical", "apart"))
    assert re.search(r"^key_\w+ ended 20", said[LATE[-1]][0], re.MULTILINE)


def check_batch(reader: Reader, output: str) -> None:
    """The README's batch over REST did what it says; pasted twice, it works twice."""
    imported, batch, receipt, task, curriculum = map(json.loads, output.splitlines())
    assert (imported["num_lines"], imported["num_rejected"]) == (2, 0)
    assert [item["num_rollouts"] for item in batch["items"]] == [2]
    assert receipt["groups"][0]["attempts"][0]["verdict"] == "applied"
    assert receipt["num_remaining"] == 0
    assert task["statistics"][0]["component_means"] == {"answer": 0.5, "format": 1.0}
    assert task["state"] == "waiting"
    assert curriculum["num_groups_applied"] == 1


def check_subtasks(reader: Reader) -> None:
    """The README's Python rows name sub-tasks, and its run has a lane for each."""
    with EtudeClient(reader.url) as client:
        (run,) = [run for run in client.list_runs(limit=100).items if run.name == "my-run"]
        subtasks = client.get_curriculum(run.id).subtasks
    assert {one.name for one in subtasks} == {"format", "answer"}


def check_learning(output: str) -> None:
    """The policy of the curriculum-only page has learned."""
    found = {line.split(":")[0]: line.replace(",", "").split() for line in output.splitlines()}
    mastery = {skill: float(words[2]) for skill, words in found.items()}
    weight = {skill: float(words[-1]) for skill, words in found.items()}
    assert mastery["multiply"] > 0.9  # it begins at sigmoid(-2) = 0.12
    assert weight == {"add": 1.0, "multiply": 1.0}, "both are mastered at the end"
