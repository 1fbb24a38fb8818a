"""Model checkpoints and published weights: whole or absent, exact, pruned, loadable elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from etude_trainer.batch import Group, decode_batch
from etude_trainer.checkpoint import Checkpoint, CheckpointState, CheckpointStore
from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.durable import new_directory
from etude_trainer.errors import CheckpointError
from etude_trainer.parity import measure, probe_tokens
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner, learn
from etude_trainer.weight_files import load_into
from etude_trainer.weights.disk import DiskChannel, path_of
from support.tiny_model import save_tiny_model
from support.trajectories import frame_of, sample_batch


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def groups_of(model_dir: Path, *, step: int) -> tuple[Group, ...]:
    """The same batch for the same step, whatever a learner's weights are by then."""
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    frame = sample_batch(model, seed=step, version=step)
    return decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()]).clone()


def save(
    store: CheckpointStore, learner: Learner, *, version: int, channel: DiskChannel | None = None
) -> Checkpoint:
    lease = f"tlease_{version}"
    uri = f"/nowhere/{version}" if channel is None else channel.uri(version, lease)
    state = CheckpointState(
        policy_version=version, lease_id=lease, fence=7, weights_uri=uri, metrics={"loss": 0.1}
    )
    dtype = torch.float32 if channel is None else channel.dtype
    parity = measure(learner.policy, [[3, 1, 4, 1, 5], [9, 2]], policy_version=version, dtype=dtype)
    policy, optimizer = learner.policy, learner.optimizer
    return store.save(state, policy=policy, optimizer=optimizer, parity=parity)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints")
    store.open()
    return store


def channel_of(
    tmp_path: Path, tiny_dir: Path, *, dtype: torch.dtype = torch.float32
) -> DiskChannel:
    channel = DiskChannel(tmp_path / "weights", model_dir=tiny_dir, dtype=dtype, keep_versions=3)
    channel.open()
    return channel


def test_resumed_is_bitwise_uninterrupted(
    tiny_dir: Path, store: CheckpointStore, config: TrainingConfig
) -> None:
    straight = build_learner(tiny_dir, config, device="cpu")
    stopped = build_learner(tiny_dir, config, device="cpu")
    for step in range(6):
        metrics = learn(straight, groups_of(tiny_dir, step=step), step=step, progress=quiet)
        if step < 3:
            learn(stopped, groups_of(tiny_dir, step=step), step=step, progress=quiet)
    saved = save(store, stopped, version=3)
    resumed = build_learner(tiny_dir, config, device="cpu")
    learn(resumed, groups_of(tiny_dir, step=9), step=9, progress=quiet)  # something to undo
    saved.load(resumed.policy, resumed.optimizer)
    for step in range(3, 6):
        again = learn(resumed, groups_of(tiny_dir, step=step), step=step, progress=quiet)
    assert torch.equal(weights(resumed), weights(straight))
    assert again == metrics


def test_random_states_come_back(store: CheckpointStore, learner: Learner) -> None:
    with torch.random.fork_rng(devices=[]):
        saved = save(store, learner, version=1)
        expected = torch.rand(3)
        saved.load(learner.policy, learner.optimizer)
        assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_is_pending_until_its_receipt(
    store: CheckpointStore, learner: Learner
) -> None:
    for version in (1, 2):
        save(store, learner, version=version)
    first, second = store.all()
    assert [c.state.policy_version for c in store.pending()] == [1, 2]
    first.mark_acked(None)
    assert store.pending() == [second]
    assert store.find(2, "/nowhere/2") == second
    assert store.find(2, "/nowhere/1") is None
    store.discard(second)
    assert store.all() == [first]


def test_pruning_keeps_the_announced_version_and_those_before(
    store: CheckpointStore, learner: Learner
) -> None:
    saved = [save(store, learner, version=version) for version in range(1, 6)]
    store.prune(announced=saved[3], keep=2)
    assert store.all() == [saved[2], saved[3]]


def test_a_killed_save_leaves_nothing(store: CheckpointStore, learner: Learner) -> None:
    leftover = store.folder / ".tmp-v000001-tlease_1-1"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    assert store.all() == []
    store.open()
    assert not leftover.exists()
    target = store.folder / "v000001-tlease_1"
    with pytest.raises(RuntimeError, match="killed"):
        write_half(target)
    assert list(store.folder.iterdir()) == []


def write_half(target: Path) -> None:
    with new_directory(target) as temporary:
        (temporary / "state.json").write_text("{}", encoding="utf-8")
        raise RuntimeError("killed")


@pytest.mark.parametrize("damage", ["state.json", "training.pt", "model.safetensors"])
def test_damage_is_named(store: CheckpointStore, learner: Learner, damage: str) -> None:
    saved = save(store, learner, version=1)
    (saved.path / damage).write_bytes(b"no")
    with pytest.raises(CheckpointError, match="v000001-tlease_1"):
        store.all()[0].load(learner.policy, learner.optimizer)


def test_weights_of_another_model_are_refused_untouched(tmp_path: Path, learner: Learner) -> None:
    before = weights(learner)
    other = save_tiny_model(tmp_path / "other", seed=1)
    tensors = load_file(other / "model.safetensors")
    name = "model.norm.weight"
    for change in ({name: tensors[name][:-1].clone()}, {"stranger": torch.zeros(1)}):
        save_file({**tensors, **change}, other / "model.safetensors")
        with pytest.raises(CheckpointError, match="other"):
            load_into(learner.policy, other)
    untied = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1}
    save_file(untied, other / "model.safetensors")
    with pytest.raises(CheckpointError, match="tied"):
        load_into(learner.policy, other)
    del tensors[name]
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing \['model.norm.weight'\]"):
        load_into(learner.policy, other)
    assert torch.equal(weights(learner), before)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_published_weights_load_elsewhere_with_the_probe_s_logprobs(
    tmp_path: Path, store: CheckpointStore, *, tied: bool, dtype: torch.dtype
) -> None:
    model_dir = save_tiny_model(tmp_path / "model", tied=tied)
    (model_dir / "tokenizer.json").write_text("{}", encoding="utf-8")
    learner = build_learner(model_dir, parse_config("[optimizer]\nlr=1e-2\n"), device="cpu")
    learn(learner, groups_of(model_dir, step=0), step=0, progress=quiet)
    channel = channel_of(tmp_path, model_dir, dtype=dtype)
    saved = save(store, learner, version=1, channel=channel)
    channel.publish(saved)
    channel.publish(saved)  # again is a no-op

    published = path_of(saved.state.weights_uri)
    assert published == tmp_path / "weights" / "v000001-tlease_1"
    names = {path.name for path in published.iterdir()}
    assert {"model.safetensors", "config.json", "parity.json", "tokenizer.json"} <= names
    tensors = load_file(published / "model.safetensors")
    assert "lm_head.weight" in tensors
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert not json.loads((published / "config.json").read_text())["tie_word_embeddings"]

    loaded = AutoModelForCausalLM.from_pretrained(published, dtype=torch.float32)
    parity = json.loads((published / "parity.json").read_text())
    assert parity["policy_version"] == 1
    for ids, logprobs in zip(parity["token_ids"], parity["logprobs"], strict=True):
        with torch.no_grad():
            lp = loaded(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        found = lp.gather(1, torch.tensor(ids)[1:, None])[:, 0]
        torch.testing.assert_close(found, torch.tensor(logprobs), atol=1e-5, rtol=0)

    fresh = build_learner(model_dir, parse_config(""), device="cpu")
    load_into(fresh.policy, published)
    torch.testing.assert_close(
        weights(fresh), weights(learner).to(dtype).float(), atol=0.0, rtol=0.0
    )


def test_old_versions_are_pruned_newer_ones_stay(
    tmp_path: Path, tiny_dir: Path, store: CheckpointStore, learner: Learner
) -> None:
    channel = channel_of(tmp_path, tiny_dir)
    saved = [save(store, learner, version=v, channel=channel) for v in range(1, 8)]
    for checkpoint in saved:
        channel.publish(checkpoint)
    (channel.folder / "notes.txt").write_text("not ours", encoding="utf-8")
    channel.prune(announced_version=6)
    names = sorted(path.name for path in channel.folder.iterdir())
    assert names == ["notes.txt", *(f"v00000{v}-tlease_{v}" for v in (4, 5, 6, 7))]
    channel.withdraw(saved[6])
    assert not path_of(saved[6].state.weights_uri).exists()


def test_the_published_file_survives_its_checkpoint(
    tmp_path: Path, tiny_dir: Path, store: CheckpointStore, learner: Learner
) -> None:
    channel = channel_of(tmp_path, tiny_dir)
    saved = save(store, learner, version=1, channel=channel)
    channel.publish(saved)
    store.discard(saved)
    assert load_file(path_of(saved.state.weights_uri) / "model.safetensors")


def test_another_volume_gets_a_copy(
    tmp_path: Path,
    tiny_dir: Path,
    store: CheckpointStore,
    learner: Learner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    channel = channel_of(tmp_path, tiny_dir)
    saved = save(store, learner, version=1, channel=channel)
    channel.publish(saved)
    copied = path_of(saved.state.weights_uri) / "model.safetensors"
    assert copied.read_bytes() == (saved.path / "model.safetensors").read_bytes()
    assert copied.stat().st_nlink == 1


def test_the_probe_is_made_of_real_tokens(tiny_dir: Path) -> None:
    groups = groups_of(tiny_dir, step=0)
    probe = probe_tokens(groups, num_sequences=3, num_tokens=6)
    assert len(probe) == 3
    for ids, group in zip(probe, groups, strict=False):
        sequence = group.sequences[0]
        assert sequence is not None
        assert ids == sequence.tokens_T[:6].tolist()
    empty = decode_batch(frame_of([]).manifest, [], vocab_size=512)
    assert probe_tokens(empty.groups, num_sequences=3, num_tokens=6) == [list(range(2, 10))]


def test_uris() -> None:
    assert path_of("/data/w/v000001-a") == Path("/data/w/v000001-a")
    assert path_of("file:///data/my%20run/v000001-a") == Path("/data/my run/v000001-a")
