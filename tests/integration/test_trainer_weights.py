"""Published weights, from the trainer's channel to the rollout service's engine, with proof."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import torch
from fastapi import FastAPI
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from etude_proto.v1.weights import TransferBackend
from etude_rollout.engines import WeightsRefused
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.models.tiny import make_model
from etude_rollout.weights.channels import FromDisk, FromTrainer
from etude_rollout.weights.disk import DiskChannel as RolloutChannel
from etude_rollout.weights.loader import Announced, LoadFacts, WeightLoader
from etude_trainer.api.weights import make_weights_router
from etude_trainer.batch import decode_batch
from etude_trainer.checkpoint import CheckpointState, CheckpointStore
from etude_trainer.config import parse_config
from etude_trainer.parity import measure, probe_tokens
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from etude_trainer.weights.disk import DiskChannel
from etude_trainer.weights.sending import Sender, SenderOptions
from support.trajectories import sample_batch

CONFIG = "[optimizer]\nlr = 1e-2\n"


def publish(folder: Path, model_dir: Path, *, steps: int) -> list[str]:
    """URIs of `steps` versions, each trained from the last."""
    learner = build_learner(model_dir, parse_config(CONFIG), device="cpu")
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    store = CheckpointStore(folder / "checkpoints")
    store.open()
    channel = DiskChannel(
        folder / "weights" / "run_a", model_dir=model_dir, dtype=torch.float32, keep_versions=4
    )
    channel.open()
    uris = []
    for version in range(1, steps + 1):
        frame = sample_batch(model, seed=version)
        size = learner.policy.vocab_size
        groups = decode_batch(frame.manifest, frame.bodies, vocab_size=size).groups
        learn(learner, groups, step=version - 1, progress=lambda _done, _total: None)
        probe = probe_tokens(groups, num_sequences=4, num_tokens=64)
        state = CheckpointState(
            policy_version=version,
            lease_id=f"tb_{version}",
            fence=version,
            weights_uri=channel.uri(version, f"tb_{version}"),
            metrics={},
        )
        parity = measure(learner.policy, probe, policy_version=version, dtype=torch.float32)
        saved = store.save(state, policy=learner.policy, optimizer=learner.optimizer, parity=parity)
        channel.publish(saved)
        uris.append(state.weights_uri)
    return uris


async def test_the_engine_computes_what_was_published(tmp_path: Path) -> None:
    make_model(tmp_path / "tiny")
    uris = publish(tmp_path, tmp_path / "tiny", steps=2)
    loads: list[LoadFacts] = []
    engine = await TransformersEngine.open(tmp_path / "tiny", num_threads=1)
    try:
        loader = WeightLoader(
            engine,
            FromDisk(RolloutChannel(tmp_path / "weights")),
            parity_threshold=1e-4,
            require_parity=True,
            on_load=loads.append,
        )
        for version, uri in enumerate(uris, start=1):
            await loader.ensure(Announced(fence=version, policy_version=version, weights_uri=uri))
    finally:
        await engine.close()
    assert [load.policy_version for load in loads] == [1, 2]
    gaps = [load.parity_gap for load in loads]
    assert all(gap is not None and gap < 1e-4 for gap in gaps), gaps


class Wire:
    """A trainer that sends over gloo, a worker's engine that receives, and what was loaded."""

    def __init__(self, folder: Path, engine: TransformersEngine, *, volume: Path) -> None:
        self.sender = Sender(SenderOptions(TransferBackend.GLOO, "127.0.0.1", 0, 2.0))
        app = FastAPI()
        app.include_router(make_weights_router(self.sender, key=None))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://trainer")
        self.loads: list[LoadFacts] = []
        disk = RolloutChannel(volume)
        self.loader = WeightLoader(
            engine,
            FromTrainer(disk, client, backend=TransferBackend.GLOO),
            parity_threshold=1e-4,
            require_parity=True,
            on_load=self.loads.append,
        )
        self.sender.open(folder / "weights" / "run_a", torch.device("cpu"))

    @property
    def channels(self) -> list[str]:
        return [load.channel for load in self.loads]


async def test_weights_go_over_the_wire_and_from_the_disk_when_that_breaks(
    tmp_path: Path,
) -> None:
    make_model(tmp_path / "tiny")
    uris = publish(tmp_path, tmp_path / "tiny", steps=3)
    engine = await TransformersEngine.open(tmp_path / "tiny", num_threads=1)
    wire = Wire(tmp_path, engine, volume=tmp_path / "weights")
    try:
        for version in (1, 2):  # no shared volume is needed for these
            await wire.loader.ensure(Announced(version, version, uris[version - 1]))
        wire.sender.close()  # the trainer is away: a late worker reads what it published
        await wire.loader.ensure(Announced(3, 3, uris[2]))
    finally:
        await engine.close()
    assert wire.channels == ["gloo", "gloo", "disk"]
    assert all(load.parity_gap is not None and load.parity_gap < 1e-4 for load in wire.loads)


async def test_without_a_volume_the_wire_is_enough_and_its_failure_is_told(tmp_path: Path) -> None:
    """The engine is another model: what is sent is refused, and the old weights serve on."""
    make_model(tmp_path / "tiny")
    (tmp_path / "empty").mkdir()
    uris = publish(tmp_path, tmp_path / "tiny", steps=2)
    engine = await TransformersEngine.open(tmp_path / "tiny", num_threads=1)
    wire = Wire(tmp_path, engine, volume=tmp_path / "empty")
    try:
        await wire.loader.ensure(Announced(1, 1, Path(uris[0]).name))
        before = await engine.score_logprobs([[5, 6, 7]])
        path = Path(uris[1]) / "model.safetensors"
        tensors = load_file(path)
        save_file({f"other.{name}": tensor for name, tensor in tensors.items()}, path)
        with pytest.raises(WeightsRefused, match=r"missing \['model"):
            await wire.loader.ensure(Announced(2, 2, Path(uris[1]).name))
        assert (engine.version, await engine.score_logprobs([[5, 6, 7]])) == (1, before)
        save_file(tensors, path)
        await wire.loader.ensure(Announced(3, 2, Path(uris[1]).name))
        assert engine.version == 2
    finally:
        wire.sender.close()
        await engine.close()
    assert wire.channels == ["gloo", "gloo"]
