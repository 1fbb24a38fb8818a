"""`etude watch`, `etude tasks`, `etude datasets` and the shell, each as a person uses them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etude_client import EtudeClient
from etude_proto.v1 import (
    DatasetCreate,
    PolicyVersionRequest,
    PromptBatchRequest,
    Run,
    RunCreate,
    RunMode,
)
from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from support.compose import TOOLS
from support.live_sampler import live_sampler
from support.waiting import wait_for
from support.workload import report_of, task


@dataclass(frozen=True, slots=True)
class Scene:
    """A sampler at an address that stays the same, with a run called `base`."""

    servers: tuple[str, str]
    up: ExitStack
    url: str
    base: Run

    def play(self, version: int) -> None:
        """Report one batch and announce."""
        with EtudeClient(self.url) as client:
            request = PromptBatchRequest(num_tasks=4, worker="w")
            batch = client.lease_prompt_batch(self.base.id, request)
            assert batch.lease is not None
            client.report_groups(batch.lease.id, report_of(batch, skill=0.5))
            request_ = PolicyVersionRequest(policy_version=version)
            client.announce_policy_version(self.base.id, request_)

    def json(self, *words: str) -> dict[str, object]:
        """What a command prints for scripts: one object, nothing else."""
        environment = {"ETUDE_SAMPLER_URL": self.url}
        done = CliRunner().invoke(app, [*words, "--json"], env=environment)
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def text(self, *words: str, code: int = 0) -> str:
        """What a command prints for people."""
        environment = {"ETUDE_SAMPLER_URL": self.url, "COLUMNS": "200"}
        done = CliRunner().invoke(app, list(words), env=environment)
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stderr

    def restart(self) -> None:
        """The sampler comes back at the address it had."""
        port = int(self.url.rsplit(":", 1)[1])
        self.up.enter_context(live_sampler(*self.servers, port=port))


@pytest.fixture
def scene(database_url: str, valkey: RunningServer) -> Iterator[Scene]:
    """One version of one run."""
    with ExitStack() as up:
        url = up.enter_context(live_sampler(database_url, valkey.url))
        with EtudeClient(url) as client:
            dataset = client.create_dataset(DatasetCreate(name="unit"))
            lines = [task(number).model_dump_json().encode() for number in range(12)]
            client.import_tasks(dataset.id, lines)
            spec = RunCreate(
                name="base", dataset_id=dataset.id, mode=RunMode.CURRICULUM_ONLY, group_size=4
            )
            made = Scene((database_url, valkey.url), up, url, client.create_run(spec))
        made.play(version=1)
        yield made


def test_looking_with_commands(scene: Scene, tmp_path: Path) -> None:
    listed = scene.json("tasks", "list", "base", "--order", "unseen", "--limit", "9")
    tasks = listed["tasks"]
    assert isinstance(tasks, list)
    assert [one["statistics"] is None for one in tasks] == [True] * 8 + [False]
    seen = tasks[-1]["id"]
    assert seen in scene.text("tasks", "list", "base", "--order", "stalest", "--limit", "12")
    shown = scene.text("tasks", "show", "base", seen)
    assert "waiting" in shown
    assert "no help: 1 groups" in shown
    view = scene.json("tasks", "show", "base", seen)
    assert isinstance(view["weights"], list)
    for term in view["weights"]:
        assert term["explanation"][:20] in shown
    assert scene.json("datasets", "show", "unit")["num_tasks"] == 12
    assert "12 tasks" in scene.text("datasets", "show", "unit")
    for words, key in ((("runs", "list"), "runs"), (("datasets", "list"), "datasets")):
        found = scene.json(*words)[key]
        assert isinstance(found, list)
        assert len(found) == 1
    told = scene.text("watch", "basee", code=2)
    assert told == "etude: no run is called 'basee'; did you mean 'base'?\n"
    told = scene.text("datasets", "show", "unti", code=2)
    assert told == "etude: no dataset is called 'unti'; did you mean 'unit'?\n"
    assert scene.json("watch", "base", "--once")["run"] == scene.json("runs", "list")["runs"][0]  # type: ignore[index]
    asked = {"_ETUDE_COMPLETE": "complete_bash", "COMP_WORDS": "etude watch b", "COMP_CWORD": "2"}
    for url, told in ((scene.url, "base"), ("http://127.0.0.1:1", "")):
        asked["ETUDE_SAMPLER_URL"] = url
        assert CliRunner().invoke(app, [], env=asked).stdout.strip() == told
    check_import(scene, tmp_path)


def check_import(scene: Scene, folder: Path) -> None:
    """For scripts, too, a refused row is exit code 1, and the good ones are there."""
    file = folder / "tasks.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "Hi"}], "response": true}\n{}\n')
    environment = {"ETUDE_SAMPLER_URL": scene.url}
    done = CliRunner().invoke(app, ["import", "jsonl", str(file), "--json"], env=environment)
    assert done.exit_code == 1, "the second line is refused"
    told = json.loads(done.stdout)
    assert (told["num_created"], told["num_rejected"], told["errors"][0]["line"]) == (1, 1, 2)
    assert done.stderr.startswith("refused: line 2")


def test_a_piped_watch_outlives_its_sampler(scene: Scene) -> None:
    """One line a change; a gap is said once; the version that was waited for ends it with 0."""
    words = ["watch", "base", "--every", "0.1", "--until-version", "3", "--url", scene.url]
    watched = subprocess.Popen(
        [str(TOOLS / "etude"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watched.stdout is not None
    assert watched.stderr is not None
    try:
        assert "version 1  groups 4" in watched.stdout.readline()
        scene.up.close()
        assert watched.stderr.readline().startswith("no answer, asking on: ")
        scene.restart()
        assert watched.stderr.readline() == "the sampler answers again\n"
        for version in (2, 3):
            scene.play(version=version)
        out, err = watched.communicate(timeout=60)
    finally:
        watched.kill()
    assert watched.returncode == 0
    assert "version 3" in out.splitlines()[-1]
    assert re.search(r"mastery \w+ 0\.\d{3}", out.splitlines()[-1])
    assert err == ""


def test_a_watch_on_a_terminal_is_drawn_in_place(scene: Scene) -> None:
    """Ctrl-C ends it with 0, the last picture stays, and the cursor is shown again."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    watched = subprocess.Popen(
        [str(TOOLS / "etude"), "watch", "base", "--every", "0.1", "--url", scene.url],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                seen.extend(data)
        except OSError:
            return  # the terminal's other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(lambda: b"version 1" in seen, what="the first picture", timeout_s=60)
        scene.play(version=2)
        wait_for(lambda: b"version 2" in seen, what="it changes", timeout_s=60)
        watched.send_signal(signal.SIGINT)
        assert watched.wait(timeout=30) == 0
    finally:
        watched.kill()
        watched.wait()
        reader.join(timeout=30)
        os.close(ours)
    text = seen.decode()
    assert "uniform" in text
    assert "Traceback" not in text
    assert "Aborted" not in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_bash_completes(tmp_path: Path) -> None:
    """In real bash: commands, sub-commands, options and their choices."""
    script = """
    source <(etude completion bash)
    complete -p etude
    ask() {
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _etude_completion etude; echo "${COMPREPLY[@]}"
    }
    ask etude ru
    ask etude runs cre
    ask etude tasks list first --order har
    ask etude watch --un
    """
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script], env={**os.environ, "PATH": path}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    how, *answers = done.stdout.splitlines()
    assert "-F _etude_completion etude" in how
    assert answers == ["runs", "create", "hardest", "--until-version"]
