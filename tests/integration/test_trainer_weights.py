"""Published weights, from the trainer's channel to the rollout service's engine, with proof."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.models.tiny import make_model
from etude_rollout.weights.disk import DiskChannel as RolloutChannel
from etude_rollout.weights.loader import Announced, LoadFacts, WeightLoader
from etude_trainer.batch import decode_batch
from etude_trainer.checkpoint import CheckpointState, CheckpointStore
from etude_trainer.config import parse_config
from etude_trainer.parity import measure, probe_tokens
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from etude_trainer.weights.disk import DiskChannel
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
            RolloutChannel(tmp_path / "weights"),
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
