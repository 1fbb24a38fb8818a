"""Several ranks of one trainer: the same numbers as one process, whatever number saved or resumes.

The ranks are the real command over gloo, started with the variables that `torchrun` sets, once by
`torchrun` itself; the sampler and its batches are real.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from etude_client import EtudeClient
from etude_proto.v1 import Run
from etude_sampler.embedded import RunningServer
from support.tiny_model import save_tiny_model
from support.tiny_worker import TRAINING_GROUPS, TinyWorker, create_run
from support.trainer_process import start_ranks, start_trainer
from support.trainer_scene import ACK, finish, kill, stopped_at_end, trainer_scene
from support.trainer_scene import Scene as CrashScene
from support.waiting import wait_for

CONFIG = """
[objective]
kl_beta = 0.02
entropy_coef = 0.001
[optimizer]
lr = 1e-4
[batch]
mini_batch_groups = 3
micro_batch_tokens = 64
share_prompts = false
wait_s = 0.5
lease_ttl_s = 5
[parallel]
replicas = {replicas}
"""
TOLERANCE = 1e-6
TTL_S = 300.0
"""Of a lease whose trainer was killed: longer than torchrun takes to start on a busy machine."""

pytestmark = pytest.mark.slow


@dataclass
class Scene:
    """A run and the trainers on it, one after another."""

    client: EtudeClient
    url: str
    folder: Path
    run: Run
    replicas: int = 1
    processes: list[ForkServerProcess] = field(default_factory=list)

    def start(self, *, num_ranks: int, max_steps: int | None = None) -> None:
        """Start a trainer of so many ranks."""
        config = self.folder / "trainer.toml"
        config.write_text(CONFIG.format(replicas=self.replicas), encoding="utf-8")
        command = ["run", "--run", self.run.id, "--config", str(config), "--port", "0"]
        command += ["--model", str(self.folder.parent / "model"), "--device", "cpu"]
        command += ["--sampler-url", self.url, "--trainer-dir", str(self.folder / "trainer")]
        command += ["--weights-root", str(self.folder / "weights")]
        if max_steps is not None:
            command += ["--max-steps", str(max_steps)]
        log = self.folder / "trainer.log"
        if num_ranks == 1:
            environment = {"ETUDE_TRAINER_THREADS": "1"}
            self.processes = [start_trainer(command, log=log, environment=environment)]
        else:
            self.processes = start_ranks(command, log=log, num_ranks=num_ranks)

    def codes(self) -> list[int | None]:
        """Wait for every rank's exit code."""
        for process in self.processes:
            process.join(60)
        return [process.exitcode for process in self.processes]

    def train(self, worker: TinyWorker, *, num_ranks: int, num_steps: int) -> None:
        """Steps, each on groups of the version before it."""
        first = self.client.get_run(self.run.id).policy_version
        self.start(num_ranks=num_ranks, max_steps=num_steps)
        for version in range(first, first + num_steps):
            worker.fill()
            wait_for(
                lambda v=version: self.client.get_run(self.run.id).policy_version > v,  # type: ignore[misc]
                what=f"version {version + 1}: {self.logs()}",
                timeout_s=60,
            )
        assert self.codes() == [0] * num_ranks, self.logs()

    def logs(self) -> str:
        """What the ranks wrote."""
        return "\n".join(path.read_text("utf-8")[-3000:] for path in self.folder.glob("*.log"))

    def journal(self) -> list[dict[str, float]]:
        """Metrics of every step."""
        text = (self.folder / "trainer" / self.run.id / "metrics.jsonl").read_text("utf-8")
        return [json.loads(line)["metrics"] for line in text.splitlines()]

    def weights(self) -> list[dict[str, torch.Tensor]]:
        """Every published version."""
        folders = sorted((self.folder / "weights" / self.run.id).iterdir())
        return [load_file(folder / "model.safetensors") for folder in folders]

    def checkpoint(self) -> Path:
        """The newest model checkpoint."""
        return max((self.folder / "trainer" / self.run.id / "checkpoints").iterdir())


def scene_of(client: EtudeClient, url: str, folder: Path, name: str, *, replicas: int = 1) -> Scene:
    """A run of its own, on tasks that are the same for every name."""
    (folder / name).mkdir()
    return Scene(client, url, folder / name, create_run(client, name), replicas)


MOVING = ("seconds_", "tokens_per_s", "wait_share", "memory_", "padding_", "micro_batch_tokens")
"""Metrics of times and memory, and of how rows are packed into passes."""


def compare(found: Scene, want: Scene) -> None:
    """Every version's weights, every step's metrics."""
    for ours, theirs in zip(found.weights(), want.weights(), strict=True):
        assert ours.keys() == theirs.keys()
        gap = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
        assert gap <= TOLERANCE
    for ours_of_step, theirs_of_step in zip(found.journal(), want.journal(), strict=True):
        assert ours_of_step.keys() == theirs_of_step.keys()
        for name, value in theirs_of_step.items():
            if not name.startswith(MOVING):
                assert ours_of_step[name] == pytest.approx(value, rel=1e-5, abs=TOLERANCE), name


def test_two_ranks_one_and_two_again_are_one_process_throughout(
    tmp_path: Path, sampler_url: str
) -> None:
    model = save_tiny_model(tmp_path / "model")
    with EtudeClient(sampler_url) as client:
        alone = scene_of(client, sampler_url, tmp_path, "alone")
        alone.train(TinyWorker(client, alone.run.id, model), num_ranks=1, num_steps=3)
        assert alone.journal()[0]["grad_norm"] > 0.01
        ranks = scene_of(client, sampler_url, tmp_path, "ranks")
        worker = TinyWorker(client, ranks.run.id, model)
        ranks.train(worker, num_ranks=2, num_steps=1)
        assert len(list((ranks.checkpoint() / "shards").glob("*.distcp"))) == 2
        ranks.train(worker, num_ranks=1, num_steps=1)
        assert not (ranks.checkpoint() / "shards").exists()
        ranks.train(worker, num_ranks=2, num_steps=1)
        compare(ranks, alone)


@pytest.fixture
def scene(tmp_path: Path, database_url: str, valkey: RunningServer) -> Iterator[CrashScene]:
    """A run on a sampler of its own, behind a gate."""
    with trainer_scene(tmp_path, database_url, valkey.url) as scene:
        yield scene


def test_whichever_rank_dies_all_end_and_the_next_start_goes_on(scene: CrashScene) -> None:
    # 1. A follower dies while the leader settles: that step counts, the next is given back.
    scene.worker.fill(2 * TRAINING_GROUPS)
    scene.gate.hold(ACK)
    leader, follower = scene.start_ranks(2, ttl_s=TTL_S)
    with stopped_at_end(leader), stopped_at_end(follower):
        scene.gate.wait_held()
        kill(follower)
        scene.gate.open()
        finish(leader, code=1)
    assert scene.version() == 1
    assert scene.client.get_curriculum(scene.run_id).counts.num_training_leases == 0
    assert "another rank is gone" in (scene.folder / "trainer-0.log").read_text("utf-8")
    # 2. The leader dies with a batch in hand: the follower ends by itself.
    scene.gate.hold(ACK)
    leader, follower = scene.start_ranks(2, ttl_s=TTL_S)
    with stopped_at_end(leader), stopped_at_end(follower):
        scene.gate.wait_held()
        kill(leader)
        finish(follower, code=1)
    scene.gate.drop()
    assert scene.version() == 1
    # 3. torchrun's next start acks what was saved, and goes on until it is stopped.
    scene.worker.fill(2 * TRAINING_GROUPS)
    events = run_by_torchrun(scene, until=3)
    assert events.count("checkpoint.acked_late") == 1
    assert "trainer.stopped" in events
    assert "trainer.failed" not in events
    version = scene.version()
    assert version in (3, 4), "another step may be made before the stop arrives"
    assert scene.journal() == list(range(1, version + 1))
    assert scene.client.get_curriculum(scene.run_id).counts.num_training_leases == 0
    scene.check()


def run_by_torchrun(scene: CrashScene, *, until: int) -> list[str]:
    """Two ranks of `torchrun` until a version, then its SIGTERM; the events that they logged."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command += ["-m", "etude_trainer", "--", *scene.command(ttl_s=TTL_S)]
    log = scene.folder / "torchrun.log"
    with log.open("w", encoding="utf-8") as out:
        torchrun = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            wait_for(
                lambda: scene.version() >= until or torchrun.poll() is not None,
                what=f"version {until}",
                timeout_s=150,
            )
            assert torchrun.poll() is None, log.read_text("utf-8")
            torchrun.terminate()
            torchrun.wait(60)
        finally:
            torchrun.kill()
            torchrun.wait()
    lines = log.read_text("utf-8").splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]
