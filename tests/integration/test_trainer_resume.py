"""A trainer that lost its newest steps: model, optimizer and curriculum come back together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from etude_client import EtudeClient
from etude_proto.v1 import Checkpoint, CheckpointCreate, TrainingBatchRequest
from etude_sampler.embedded import RunningServer
from etude_trainer.config import parse_config
from etude_trainer.errors import CannotResume
from etude_trainer.service import Job, TrainerService
from etude_trainer.settings import Settings
from support.live_sampler import live_sampler
from support.tiny_model import save_tiny_model
from support.tiny_worker import TRAINING_GROUPS, TinyWorker, create_run
from support.waiting import wait_for

CONFIG = "resume = '{resume}'\n[optimizer]\nlr = 1e-2\n[batch]\nwait_s = 0.2\nlease_ttl_s = 10\n"


@dataclass
class Scene:
    """A run that a trainer has trained for three versions, and its folder."""

    client: EtudeClient
    url: str
    run_id: str
    folder: Path
    worker: TinyWorker

    def service(self, *, max_steps: int | None = None, resume: str = "exact") -> TrainerService:
        """A trainer in the scene's folder."""
        settings = Settings(
            sampler_url=self.url,
            weights_root=self.folder / "weights",
            trainer_dir=self.folder / "trainer",
            trainer_device="cpu",
        )
        job = Job(run=self.run_id, model_dir=self.folder / "model", max_steps=max_steps)
        return TrainerService(settings, parse_config(CONFIG.format(resume=resume)), job=job)

    def train(self, num_steps: int, **more: str) -> TrainerService:
        """Steps, with the worker at work."""
        service = self.service(max_steps=num_steps, **more)
        service.start()
        try:
            while service.is_alive:
                self.worker.fill()
        finally:
            service.stop()
        return service

    def start(self, **more: str) -> TrainerService:
        """A trainer that has recovered, or failed to, and takes no step."""
        service = self.service(max_steps=0, **more)
        service.start()
        try:
            wait_for(
                lambda: not service.is_alive or service.board.read().policy_version is not None,
                what="the trainer stands or gives up",
                timeout_s=60,
            )
        finally:
            service.stop()
        return service

    def checkpoints(self) -> list[Path]:
        """The model checkpoints on disk, oldest first."""
        return sorted((self.folder / "trainer" / self.run_id / "checkpoints").iterdir())

    def curricula(self) -> dict[int, Checkpoint]:
        """Curriculum checkpoints by version."""
        found = self.client.list_checkpoints(self.run_id).items
        return {one.policy_version: one for one in found}


@pytest.fixture
def scene(tmp_path: Path, database_url: str, valkey: RunningServer) -> Iterator[Scene]:
    """Three versions, and reports that none of them holds."""
    save_tiny_model(tmp_path / "model")
    with live_sampler(database_url, valkey.url) as url, EtudeClient(url) as client:
        run = create_run(client, "resume")
        worker = TinyWorker(client, run.id, tmp_path / "model")
        made = Scene(client, url, run.id, tmp_path, worker)
        assert made.train(3).error is None
        yield made


def test_a_lost_step_takes_the_run_back(scene: Scene) -> None:
    """The newest model checkpoint is gone: the run goes back to the one before, and on from it."""
    lost, kept = scene.checkpoints()[-1], scene.checkpoints()[-2]
    shutil.rmtree(lost)
    shutil.rmtree(scene.folder / "weights" / scene.run_id / kept.name)
    before = scene.curricula()[2]
    assert scene.start().error is None
    run = scene.client.get_run(scene.run_id)
    assert (run.policy_version, run.weights_uri) == (2, before.weights_uri)
    now = scene.client.create_checkpoint(scene.run_id, CheckpointCreate())
    assert now.sha256 == before.sha256, "statistics are those of the step, to the last bit"
    assert run.weights_uri is not None
    published = load_file(Path(run.weights_uri) / "model.safetensors")
    ours = load_file(kept / "model.safetensors")
    assert all(torch.equal(published[name], ours[name]) for name in ours)
    assert scene.train(2).error is None
    versions = [p.policy_version for p in scene.client.iter_history(scene.run_id)]
    assert versions == [1, 2, 3, 4]
    (done,) = scene.client.list_restores(scene.run_id).items
    assert (done.from_version, done.policy_version, done.checkpoint_id) == (3, 2, before.id)
    assert scene.checkpoints()[-2].name != lost.name, "version 3 was made anew"


def test_without_a_curriculum_checkpoint_it_says_what_to_do(scene: Scene) -> None:
    shutil.rmtree(scene.checkpoints()[-1])
    for one in scene.curricula().values():
        scene.client.delete_checkpoint(scene.run_id, one.id)
    error = scene.start().error
    assert isinstance(error, CannotResume)
    text = "is at version 3, but the newest model checkpoint here is of version 2"
    assert text in str(error)
    assert "etude runs restore resume" in str(error)
    assert 'resume = "continue"' in str(error)
    assert scene.client.get_run(scene.run_id).policy_version == 3
    followed = scene.start(resume="continue")
    assert followed.error is None
    assert followed.board.read().policy_version == 3


def test_another_trainer_at_work_is_not_pulled_back(scene: Scene) -> None:
    shutil.rmtree(scene.checkpoints()[-1])
    scene.worker.fill()
    request = TrainingBatchRequest(trainer="other", num_groups=TRAINING_GROUPS, wait_s=5)
    assert scene.client.lease_training_batch(scene.run_id, request).manifest.lease is not None
    error = scene.start().error
    assert isinstance(error, CannotResume)
    assert "another trainer holds a training batch" in str(error)
    assert scene.client.get_run(scene.run_id).policy_version == 3


def test_pinned_weights_are_kept(scene: Scene) -> None:
    """Weights of a pinned curriculum checkpoint can be loaded when their turn is long over."""
    pinned = scene.client.create_checkpoint(scene.run_id, CheckpointCreate(pinned=True))
    assert pinned.weights_uri is not None
    assert scene.train(5).error is None
    assert Path(pinned.weights_uri).is_dir()
    assert len(list((scene.folder / "weights" / scene.run_id).iterdir())) == 5
