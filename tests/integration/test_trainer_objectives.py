"""Adapters, reference resets and bad batches in the real loop, against a real sampler."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from safetensors.torch import load_file

from etude_client import EtudeClient
from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.service import Job, TrainerService
from etude_trainer.settings import Settings
from support.tiny_model import save_tiny_model
from support.tiny_worker import TinyWorker, create_run
from support.waiting import wait_for

LORA_WITH_RESETS = """
[objective]
kl_beta = 0.01
[optimizer]
lr = 1e-2
[lora]
rank = 4
[resets]
enabled = true
patience_steps = 1
min_apart_steps = 2
validation_versions = 1000
[batch]
wait_s = 0.5
lease_ttl_s = 10
"""


def service_of(
    folder: Path, url: str, *, run: str, model_dir: Path, config: TrainingConfig, max_steps: int
) -> TrainerService:
    settings = Settings(
        sampler_url=url,
        weights_root=folder / "weights",
        trainer_dir=folder / "trainer",
        trainer_name="objectives-test",
        trainer_device="cpu",
    )
    return TrainerService(settings, config, job=Job(run, model_dir, max_steps))


def work_until_ended(service: TrainerService, worker: TinyWorker) -> None:
    service.start()
    try:
        wait_for(lambda: not service.is_alive or worker.fill() < 0, what="the end", timeout_s=90)
    finally:
        service.stop()


def test_an_adapter_with_resets_is_trained_published_and_resumed(
    tmp_path: Path, sampler_url: str
) -> None:
    """Workers load merged weights; a restart has the reference and goes on with the detector."""
    model_dir = save_tiny_model(tmp_path / "model")
    config = parse_config(LORA_WITH_RESETS)
    with EtudeClient(sampler_url) as client:
        run = create_run(client, "lora")
        worker = TinyWorker(client, run.id, model_dir)
        for _ in range(2):
            service = service_of(
                tmp_path, sampler_url, run=run.id, model_dir=model_dir, config=config, max_steps=3
            )
            work_until_ended(service, worker)
            assert service.error is None
        assert client.get_run(run.id).policy_version == 6
    lines = (tmp_path / "trainer" / run.id / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [json.loads(line)["metrics"] for line in lines]
    assert steps[0]["kl_reference"] == 0.0
    assert steps[1]["kl_reference"] > 0.0
    resets = [number for number, step in enumerate(steps) if step["reference_reset"]]
    assert resets
    assert all(after - before >= 2 for before, after in itertools.pairwise(resets))
    assert all(steps[n + 1]["kl_reference"] == 0.0 for n in resets if n + 1 < len(steps))
    assert all(0.0 <= step["validation_mean"] <= 1.0 for step in steps[1:])
    assert len(worker.loaded) >= 4
    (newest,) = (tmp_path / "weights" / run.id).glob("v000006-*")
    assert "lm_head.weight" in load_file(newest / "model.safetensors")
    checkpoints = tmp_path / "trainer" / run.id / "checkpoints"
    (last,) = checkpoints.glob("v000006-*")
    named = json.loads((last / "state.json").read_text("utf-8"))["reference"]
    assert (checkpoints / named / "model.safetensors").is_file()
    assert all(".lora_" in name for name in load_file(last / "model.safetensors"))


def test_a_model_that_did_not_sample_the_batch_ends_the_trainer_and_gives_it_back(
    tmp_path: Path, sampler_url: str
) -> None:
    """Right vocabulary, wrong temperature: nothing is out of range, all log-probabilities are."""
    model_dir = save_tiny_model(tmp_path / "model")
    config = parse_config("[model]\ntemperature = 0.01\n[objective]\nmax_gap_nats = 0.5\n")
    with EtudeClient(sampler_url) as client:
        run = create_run(client, "other")
        worker = TinyWorker(client, run.id, model_dir)
        service = service_of(
            tmp_path, sampler_url, run=run.id, model_dir=model_dir, config=config, max_steps=1
        )
        work_until_ended(service, worker)
        assert "another model, vocabulary or temperature" in str(service.error)
        counts = client.get_curriculum(run.id).counts
        assert counts.num_training_groups == 0
        assert counts.num_ready_groups >= 4
        assert client.get_run(run.id).policy_version == 0
