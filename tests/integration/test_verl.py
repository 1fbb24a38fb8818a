"""verl's trainers with the curriculum: verl's own loop, killed in a step and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from etude_client import EtudeClient
from etude_proto.v1 import CurriculumView
from support.live_sampler import gated
from support.tree import ROOT
from support.waiting import wait_for

SUPPORT = ROOT / "tests" / "support"
NUM_TASKS, GROUP_SIZE = 4, 4
KEYS = "trainer.v1.sampler.sampler_kwargs"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "RAY_AUTH_MODE": "disabled",  # it would write a token to the home directory
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture(scope="module")
def queue() -> Iterator[str]:
    """verl's TransferQueue on a Ray of its own; yields Ray's address."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [sys.executable, str(SUPPORT / "verl_queue.py"), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address
        try:
            yield address
        finally:
            process.stdin.close()
            process.wait(timeout=60)


@contextmanager
def driver(folder: Path, address: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The driver at work; killed in the end if it still is."""
    command = [sys.executable, str(SUPPORT / "verl_driver.py"), str(folder), address, *arguments]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class Group:
    """A group that the driver made."""

    call: int
    """Of the driver's agent loops, since it began."""
    step: int
    prompt: str
    rewards: list[float]
    num_failed: int


def groups_in(file: Path) -> list[Group]:
    """All that were noted in a file."""
    lines = file.read_text().splitlines()
    return [Group(**json.loads(line)) for line in lines]


@pytest.mark.timeout(420)
def test_a_killed_trainer_goes_on_from_its_checkpoint(
    sampler_url: str, queue: str, tmp_path: Path
) -> None:
    tracker = tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt"
    shape = [
        f"{KEYS}.components=[score,is_digit]",
        f"{KEYS}.ranges.score=[-1.0,1.0]",
        "algorithm.filter_groups.enable=true",
        f"data.train_batch_size={NUM_TASKS}",
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        "trainer.save_freq=3",
    ]
    with gated(sampler_url) as (url, gate), EtudeClient(sampler_url) as client:
        shape.append(f"{KEYS}.url={url}")
        with driver(
            tmp_path, queue, "train", *shape, "trainer.total_training_steps=1000"
        ) as process:
            wait_for(
                lambda: tracker.exists() or process.poll() is not None,
                what="a checkpoint",
                timeout_s=180,
            )
            gate.hold(r"POST /v1/leases/[^/]+/groups", at="reply")
            gate.wait_held(timeout_s=60)
            process.kill()
            process.wait()
            gate.drop()
        saved = int(tracker.read_text())
        before = groups_in(tmp_path / "groups.jsonl")
        kept = [one for one in before if one.step <= saved]
        (run,) = client.iter_runs()
        counted = client.get_curriculum(run.id).num_groups_applied
        assert counted > sum(1 for one in kept if one.rewards)  # more than its checkpoint knows

        total = saved + 3
        with driver(
            tmp_path, queue, "all", *shape, f"trainer.total_training_steps={total}"
        ) as process:
            code = process.wait(timeout=240)
        log = (tmp_path / "log").read_text(errors="replace")
        assert code == 0, log[-3000:]
        (restore,) = client.list_restores(run.id).items
        assert restore.policy_version == saved
        made = kept + groups_in(tmp_path / "groups.jsonl")[len(before) :]
        view = client.get_curriculum(run.id)
        history = list(client.iter_history(run.id))[-total:]
        (ahead,) = [one for one in client.iter_runs() if one.name == "ahead"]
        ahead_view = client.get_curriculum(ahead.id)

    # Counted are the groups that ended, each once: filtered ones too, failed rollouts never.
    assert view.policy_version == total
    assert view.num_groups_applied == sum(1 for one in made if one.rewards)
    assert view.counts.num_prompt_leases == 0
    assert {lane.name for lane in view.lanes} == {"uniform", "score", "is_digit"}
    by_step: dict[int, list[Group]] = defaultdict(list)
    for one in made:
        by_step[one.step].append(one)
    assert [point.policy_version for point in history] == list(range(1, total + 1))
    for point in history:
        groups = by_step[point.policy_version]
        assert point.num_rollouts == sum(len(one.rewards) for one in groups)
    assert any(len(groups) > NUM_TASKS for groups in by_step.values())  # the filter drew again
    assert any(0 < one.num_failed < GROUP_SIZE for one in made)
    assert any(one.num_failed == GROUP_SIZE for one in made)
    refusals_are_clear(json.loads((tmp_path / "refusals.json").read_text()), total)
    generation_ahead_is_counted_once(tmp_path, ahead_view)


def refusals_are_clear(said: dict[str, str], total: int) -> None:
    """What the second driver tried after it had trained."""
    words = {
        "asynchronous": "trainer_mode is 'colocate_async': name AsyncCurriculumBuffer",
        "key": f"{KEYS}.presets: Extra inputs",
        "group size": "group_size 4, not 3",
        "batch": "20 different prompts are too few for 21",
        "ahead": f"at step {total}, and training begins after step 0",
        "bare": "data.pt was saved without a curriculum",
    }
    for name, part in words.items():
        assert part in said.get(name, ""), (name, said)


def generation_ahead_is_counted_once(folder: Path, view: CurriculumView) -> None:
    """What was under way at the checkpoint is generated again after it, and not counted."""
    before = groups_in(folder / "ahead-0.jsonl")
    after = groups_in(folder / "ahead-1.jsonl")
    again = [one for one in after if one.call == after[0].call]
    assert 0 < len(again) <= NUM_TASKS
    assert view.policy_version == 6
    counted = before + after[len(again) :]
    assert view.num_groups_applied == sum(1 for one in counted if one.rewards)
    assert view.counts.num_prompt_leases == 0
    assert any(len(one.rewards) > GROUP_SIZE for one in counted)  # the budget's numbers
