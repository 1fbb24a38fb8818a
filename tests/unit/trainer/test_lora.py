"""LoRA: what is trained, kept and published, and that engines compute the same from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from etude_trainer.batch import Group, decode_batch
from etude_trainer.checkpoint import Checkpoint, CheckpointState, CheckpointStore
from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.errors import CheckpointError, ConfigError, ModelError
from etude_trainer.learner import Learner
from etude_trainer.lora import LoraPolicy, LoraReference
from etude_trainer.parallel.team import Team
from etude_trainer.parity import Parity, measure
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from etude_trainer.weights.disk import DiskChannel
from support.trajectories import sample_batch

CONFIG = """
[objective]
kl_beta = 0.1
[optimizer]
lr = 1e-2
[lora]
rank = 4
"""
PROBE = [[5, 6, 7, 8, 9, 10], [20, 30, 40]]


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def learner_of(folder: Path, text: str = CONFIG) -> Learner:
    return build_learner(folder, parse_config(text), device="cpu")


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Group, ...]]:
    from support.tiny_model import save_tiny_model

    model = learner_of(save_tiny_model(tmp_path_factory.mktemp("tiny")), "").policy.module
    frames = [sample_batch(model, seed=seed) for seed in range(4)]
    return [decode_batch(f.manifest, f.bodies, vocab_size=512).groups for f in frames]


def base_weights(learner: Learner) -> torch.Tensor:
    parts = [p for name, p in learner.policy.module.named_parameters() if ".lora_" not in name]
    return torch.cat([p.detach().flatten() for p in parts]).clone()


def adapter(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.weights().values()]).clone()


def test_only_the_adapter_is_trained(tiny_dir: Path, batches: list[tuple[Group, ...]]) -> None:
    learner = learner_of(tiny_dir)
    base, first = base_weights(learner), adapter(learner)
    metrics = learn(learner, batches[0], step=0, progress=quiet)
    assert metrics["kl_reference"] == 0.0
    assert torch.equal(base_weights(learner), base)
    assert not torch.equal(adapter(learner), first)
    moments = [value for state in learner.optimizer.state.values() for value in state.values()]
    assert sum(m.numel() for m in moments if m.ndim) == 2 * len(first)
    assert learn(learner, batches[1], step=1, progress=quiet)["kl_reference"] > 1e-5


def test_an_adapter_begins_as_the_model_and_its_reference_stays_it(
    tiny_dir: Path, batches: list[tuple[Group, ...]]
) -> None:
    """No second copy: the reference is the same module, without what was learned."""
    whole = learner_of(tiny_dir, "")
    own = measure(whole.policy, PROBE, policy_version=0, dtype=torch.float32)
    learner = learner_of(tiny_dir)
    assert isinstance(learner.reference, LoraReference)
    assert learner.reference.module is learner.policy.module
    assert logprobs(measured(learner)) == pytest.approx(logprobs(own), abs=1e-6)
    learn(learner, batches[0], step=0, progress=quiet)
    assert logprobs(measured(learner)) != pytest.approx(logprobs(own), abs=1e-4)
    assert isinstance(learner.policy, LoraPolicy)
    learner.policy.begin_anew()
    assert logprobs(measured(learner)) == pytest.approx(logprobs(own), abs=1e-6)


def measured(learner: Learner, dtype: torch.dtype = torch.float32) -> Parity:
    return measure(learner.policy, PROBE, policy_version=1, dtype=dtype)


def logprobs(parity: Parity) -> list[float]:
    return [value for row in parity.logprobs for value in row]


def save(folder: Path, learner: Learner, *, uri: str = "/w", version: int = 1) -> Checkpoint:
    store = CheckpointStore(folder)
    store.open()
    state = CheckpointState(
        policy_version=version,
        lease_id=f"lease{version}",
        fence=1,
        weights_uri=uri,
        metrics={},
        reference=learner.memory.reference,
    )
    return store.save(
        state, policy=learner.policy, optimizer=learner.optimizer, parity=measured(learner)
    )


def test_a_checkpoint_holds_the_adapter_and_a_resumed_trainer_goes_on_the_same(
    tiny_dir: Path, batches: list[tuple[Group, ...]], tmp_path: Path
) -> None:
    learner = learner_of(tiny_dir)
    learn(learner, batches[0], step=0, progress=quiet)
    learner.memory.reference = None
    Team(learner).reset_reference("v000001-lease1")  # the reference is the adapter of now
    first = save(tmp_path, learner)
    learn(learner, batches[1], step=1, progress=quiet)
    second = save(tmp_path, learner, version=2)
    names = load_file(second.path / "model.safetensors").keys()
    assert all(".lora_" in name and name.startswith("base_model.model.model.") for name in names)
    assert first.state.reference == second.state.reference == "v000001-lease1"
    resumed = learner_of(tiny_dir)
    Team(resumed).load(second)
    want = learn(learner, batches[2], step=2, progress=quiet)
    assert learn(resumed, batches[2], step=2, progress=quiet) == want
    assert want["kl_reference"] > 0.0
    assert torch.equal(adapter(resumed), adapter(learner))
    with pytest.raises(CheckpointError, match="another model"):
        Team(learner_of(tiny_dir, "")).load(second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_weights_are_what_the_trainer_measured(
    tiny_dir: Path, batches: list[tuple[Group, ...]], tmp_path: Path, dtype: torch.dtype
) -> None:
    from transformers import AutoModelForCausalLM

    learner = learner_of(tiny_dir)
    learn(learner, batches[0], step=0, progress=quiet)
    directory = publish(tmp_path, tiny_dir, learner, dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    want = logprobs(measured(learner, dtype))
    assert scored(model) == pytest.approx(want, abs=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers by an older name
def test_a_published_adapter_is_what_the_trainer_measured(
    tiny_dir: Path, batches: list[tuple[Group, ...]], tmp_path: Path
) -> None:
    """Loaded by peft itself, over the model's own directory."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    learner = learner_of(tiny_dir, f'{CONFIG}publish = "adapter"\n')
    learn(learner, batches[0], step=0, progress=quiet)
    directory = publish(tmp_path, tiny_dir, learner)
    assert sorted(path.name for path in directory.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "parity.json",
    ]
    base = AutoModelForCausalLM.from_pretrained(tiny_dir, dtype=torch.float32)
    bare = scored(base)
    model = PeftModel.from_pretrained(base, directory)
    assert scored(model) == pytest.approx(logprobs(measured(learner)), abs=1e-5)
    assert scored(model) != pytest.approx(bare, abs=1e-4)


def publish(
    folder: Path, model_dir: Path, learner: Learner, *, dtype: torch.dtype = torch.float32
) -> Path:
    channel = DiskChannel(
        folder / "weights",
        model_dir=model_dir,
        dtype=dtype,
        keep_versions=2,
        lora=learner.config.lora,
    )
    channel.open()
    uri = channel.uri(1, "lease1")
    channel.publish(save(folder / "checkpoints", learner, uri=uri))
    return Path(uri)


def scored(model: torch.nn.Module) -> list[float]:
    found: list[float] = []
    with torch.no_grad():
        for ids in PROBE:
            lp = model(input_ids=torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
            found += lp.gather(1, torch.tensor(ids)[1:, None])[:, 0].tolist()
    return found


def test_a_frozen_model_in_bfloat16_trains_a_float32_adapter(
    tiny_dir: Path, batches: list[tuple[Group, ...]], tmp_path: Path
) -> None:
    text = f'{CONFIG}base = "bfloat16"\n[model]\nautocast = "bfloat16"\n'
    learner = learner_of(tiny_dir, text)
    types = {name.split(".")[-2]: p.dtype for name, p in learner.policy.module.named_parameters()}
    assert (types["base_layer"], types["default"]) == (torch.bfloat16, torch.float32)
    assert learn(learner, batches[0], step=0, progress=quiet)["num_updates"] == 1.0
    directory = publish(tmp_path, tiny_dir, learner)
    assert load_file(directory / "model.safetensors")["lm_head.weight"].dtype == torch.float32


def test_what_cannot_be_is_told_at_the_start(tiny_dir: Path) -> None:
    with pytest.raises(ModelError, match="has no layer 'w_proj'"):
        learner_of(tiny_dir, '[lora]\nrank = 4\ntargets = ["q_proj", "w_proj"]\n')
    with pytest.raises(ConfigError, match=r"needs model\.autocast"):
        parse_config('[lora]\nrank = 4\nbase = "bfloat16"\n')
    config: TrainingConfig = parse_config("[lora]\nrank = 4\nalpha = 6\n")
    assert config.lora.scale == 1.5
