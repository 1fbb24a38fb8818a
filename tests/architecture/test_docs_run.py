"""The examples of the pages, run as they stand against `etude serve`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import httpx
import pytest

from support.compose import TOOLS
from support.markdown import page
from support.waiting import wait_for


@pytest.fixture(scope="module")
def sampler_url() -> Iterator[str]:
    """`etude serve` with its own servers, in a folder of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # Directly under /tmp: pytest's own folders are too deep for socket paths.
    folder = Path(tempfile.mkdtemp(prefix="etude-docs-", dir="/tmp"))
    folder.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETUDE_")}
    process = subprocess.Popen(
        [str(TOOLS / "etude"), "serve", "--port", str(port)], cwd=folder, env=environment
    )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, "etude serve ended"
        try:
            return httpx.get(f"{url}/readyz").is_success
        except httpx.TransportError:
            return False

    try:
        wait_for(is_ready, what="etude serve is ready", timeout_s=120)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        rmtree(folder, ignore_errors=True)


def run(words: list[str], url: str, folder: Path) -> str:
    """What a program prints; it must succeed."""
    environment = {**os.environ, "ETUDE_SAMPLER_URL": url}
    done = subprocess.run(
        words, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_s_batch_over_rest(sampler_url: str, tmp_path: Path) -> None:
    (block,) = page("README.md").blocks("bash")
    for _ in range(2):  # pasted twice, it works twice
        output = run(["bash", "-euo", "pipefail", "-c", block], sampler_url, tmp_path)
    imported, batch, receipt, task, curriculum = map(json.loads, output.splitlines())
    assert (imported["num_lines"], imported["num_rejected"]) == (2, 0)
    assert [item["num_rollouts"] for item in batch["items"]] == [2]
    assert receipt["groups"][0]["attempts"][0]["verdict"] == "applied"
    assert receipt["num_remaining"] == 0
    assert task["statistics"][0]["component_means"] == {"answer": 0.5, "format": 1.0}
    assert task["state"] == "waiting"
    assert curriculum["num_groups_applied"] == 1
    shown = run(
        [str(TOOLS / "etude"), "runs", "show", batch["lease"]["run_id"]], sampler_url, tmp_path
    )
    assert "uniform" in shown


def test_the_curriculum_only_example_learns(sampler_url: str, tmp_path: Path) -> None:
    (block,) = page("docs/how-to/curriculum-only.md").blocks("python")
    lines = run([str(TOOLS / "python"), "-c", block], sampler_url, tmp_path).splitlines()
    found = {line.split(":")[0]: line.replace(",", "").split() for line in lines}
    mastery = {skill: float(words[2]) for skill, words in found.items()}
    weight = {skill: float(words[-1]) for skill, words in found.items()}
    assert mastery["multiply"] > 0.9  # it begins at sigmoid(-2) = 0.12
    assert weight == {"add": 1.0, "multiply": 1.0}, "both are mastered at the end"
