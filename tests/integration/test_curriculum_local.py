"""`Curriculum.local`: a sampler that starts with a script, ends with it, and remembers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etude_client import AsyncCurriculum, Curriculum
from support.waiting import wait_for

SCRIPT = """
import os, signal, sys
from etude_client import Curriculum

tasks = [
    {"messages": [{"role": "user", "content": f"{n}?"}], "subtasks": ["answer"]} for n in range(8)
]
curriculum = Curriculum.local(tasks, directory=sys.argv[1], group_size=2)
batch = curriculum.next_batch(4)
curriculum.report(batch, {item.task_id: [1.0, 0.0] for item in batch})
curriculum.step()
curriculum.flush(60)
if (child := os.fork()) == 0:
    signal.pause()  # a data-loader worker, say, that outlives its parent
print(child, curriculum.policy_version, flush=True)
sys.stdin.read()
"""


def processes(folder: Path) -> list[str]:
    """Process ids of samplers that serve from a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = entry.read_bytes().decode(errors="replace").split("\0")
            if "etude_sampler" in command and str(folder) in command:
                found.append(entry.parent.name)
    return found


async def test_a_killed_script_takes_its_sampler_along(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdin is not None
    assert script.stdout is not None
    with script.stdin, script.stdout:
        child, version = script.stdout.readline().split()
        try:
            assert version == "1"
            assert processes(folder)
            os.kill(script.pid, signal.SIGKILL)
            script.wait()
            wait_for(lambda: not processes(folder), what="the sampler ended", timeout_s=60)
        finally:
            os.kill(int(child), signal.SIGKILL)

    # What it learned is there for the next one, here with an event loop.
    tasks = [
        {"messages": [{"role": "user", "content": f"{n}?"}], "subtasks": ["answer"]}
        for n in range(8)
    ]
    async with await AsyncCurriculum.local(tasks, directory=folder, group_size=2) as curriculum:
        assert curriculum.policy_version == 1
        assert (await curriculum.view()).num_groups_applied == 4
        batch = await curriculum.next_batch(2)
        delivery = curriculum.report(batch, {item.task_id: [1.0, 0.0] for item in batch})
        assert len(await curriculum.receipts(delivery, 60)) == 1
        state = await curriculum.state_dict()
        curriculum.step()
        assert await curriculum.flush(60)
        await curriculum.load_state_dict(state)
        assert curriculum.policy_version == 1
        await curriculum.release(await curriculum.next_batch(8))
        assert curriculum.status.num_late == 0

        # A second one in this process and folder shares the sampler.
        with Curriculum.local(tasks, directory=folder, group_size=2) as other:
            assert other.url == curriculum.sync.url
        assert processes(folder)
    assert not processes(folder)


def test_what_keeps_it_from_starting_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postgres").write_text("not a folder")
    with pytest.raises(RuntimeError, match=r"the end of .*local-sampler\.log:\n.*postgres"):
        Curriculum.local([], directory=tmp_path / "data")
