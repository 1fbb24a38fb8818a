"""The policy against the model's own forward pass, however the tokens are laid out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from etude_trainer.batch import TokenSequence, decode_batch
from etude_trainer.batching import build_micro_batch, token_table
from etude_trainer.checks import can_share_prompts, check_head
from etude_trainer.config import ModelConfig
from etude_trainer.errors import ModelError
from etude_trainer.layout import Budget, pack_rows, plan_group
from etude_trainer.model import Policy, load_policy, pick_device
from support.tiny_model import save_tiny_model
from support.trajectories import sample_batch

CPU = torch.device("cpu")


@pytest.fixture
def sequences(tiny_dir: Path) -> list[list[TokenSequence]]:
    """Three groups of four sequences, sampled from the model."""
    model = AutoModelForCausalLM.from_pretrained(tiny_dir)
    frame = sample_batch(model, num_groups=3)
    batch = decode_batch(frame.manifest, frame.bodies, vocab_size=512)
    return [[s for s in group.sequences if s is not None] for group in batch.groups]


def scored(policy: Policy, groups: list[list[TokenSequence]], budget: Budget) -> torch.Tensor:
    """Log-probabilities [N] of all trained tokens, computed in this layout."""
    flat = [sequence for group in groups for sequence in group]
    table = token_table(flat, torch.zeros(len(flat)))
    rows = []
    first = 0
    for group in groups:
        rows += plan_group(list(enumerate(group, start=first)), budget)
        first += len(group)
    lp_N = torch.full((len(table.sequence_N),), torch.nan)
    for part in pack_rows(rows, budget):
        micro = build_micro_batch(part, flat, table.offsets)
        assert micro.ids_BL.numel() <= budget.max_tokens or len(part) == 1
        with torch.no_grad():
            lp_N[micro.token_n] = policy.token_logprobs(micro)[0]
    return lp_N


@pytest.mark.parametrize("max_tokens", [64, 200, 4096])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("logits_elements", [1 << 12, 1 << 25])
def test_logprobs_do_not_depend_on_the_layout(
    tiny_dir: Path,
    sequences: list[list[TokenSequence]],
    max_tokens: int,
    share: bool,
    logits_elements: int,
) -> None:
    policy = load_policy(tiny_dir, ModelConfig(logits_elements=logits_elements), CPU)
    budget = Budget(max_tokens=max_tokens, share_prompts=share, pair_cost=1e-4)
    found = scored(policy, sequences, budget)
    theirs = []
    with torch.no_grad():
        for sequence in (s for group in sequences for s in group):
            ids = torch.from_numpy(sequence.tokens_T).long()
            lp = policy.module(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            taken = lp.gather(1, ids[1:, None])[:, 0]
            theirs.append(taken[torch.from_numpy(sequence.trained_T[1:])])
    torch.testing.assert_close(found, torch.cat(theirs), atol=2e-6, rtol=0)


def test_logprobs_are_those_of_the_engine(
    tiny_dir: Path, sequences: list[list[TokenSequence]]
) -> None:
    policy = load_policy(tiny_dir, ModelConfig(), CPU)
    budget = Budget(max_tokens=4096, share_prompts=True, pair_cost=1e-4)
    found = scored(policy, sequences, budget)
    reported = torch.cat(
        [torch.from_numpy(s.lp_rollout_T[s.trained_T]) for group in sequences for s in group]
    )
    torch.testing.assert_close(found, reported, atol=5e-6, rtol=0)


@pytest.mark.parametrize("logits_elements", [1 << 12, 1 << 25])
def test_entropy_is_that_of_the_distribution(
    tiny_dir: Path, sequences: list[list[TokenSequence]], logits_elements: int
) -> None:
    config = ModelConfig(logits_elements=logits_elements, temperature=0.7)
    policy = load_policy(tiny_dir, config, CPU)
    (sequence, *_) = sequences[0]
    table = token_table([sequence], torch.zeros(1))
    rows = plan_group([(0, sequence)], Budget(4096, True, 1e-4))
    micro = build_micro_batch(rows, [sequence], table.offsets)
    lp, entropy = policy.token_logprobs(micro, entropy=True)
    ids = torch.from_numpy(sequence.tokens_T).long()
    logits = policy.module(input_ids=ids[None]).logits[0, :-1] / 0.7
    there = torch.from_numpy(sequence.trained_T[1:])
    want = torch.distributions.Categorical(logits=logits[there])
    assert entropy is not None
    torch.testing.assert_close(entropy, want.entropy(), atol=1e-5, rtol=0)
    torch.testing.assert_close(lp, want.log_prob(ids[1:][there]), atol=1e-5, rtol=0)


def test_bfloat16_keeps_float32_weights_and_a_float32_head(
    tiny_dir: Path, sequences: list[list[TokenSequence]]
) -> None:
    budget = Budget(4096, True, 1e-4)
    exact = scored(load_policy(tiny_dir, ModelConfig(), CPU), sequences, budget)
    policy = load_policy(tiny_dir, ModelConfig(autocast="bfloat16"), CPU)
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    rounded = scored(policy, sequences, budget)
    gap = (rounded - exact).abs().max()
    assert 0 < gap < 0.05
    assert rounded.dtype == torch.float32


@pytest.mark.parametrize("tied", [True, False])
def test_names_of_table_and_output_layer(tmp_path: Path, tied: bool) -> None:
    policy = load_policy(save_tiny_model(tmp_path / "model", tied=tied), ModelConfig(), CPU)
    assert policy.is_tied is tied
    assert (policy.table_name, policy.head_name) == ("model.embed_tokens.weight", "lm_head.weight")
    assert policy.vocab_size == 512


SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def test_a_model_that_rescales_its_logits_is_refused() -> None:
    module = GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=8.0))
    torch.nn.init.normal_(module.lm_head.weight)
    policy = Policy(module.eval(), ModelConfig(), CPU)
    with pytest.raises(ModelError, match="GraniteForCausalLM changes logits"):
        check_head(policy, temperature=1.0)


def test_rounding_under_autocast_is_no_reason_to_refuse(tiny_dir: Path) -> None:
    policy = load_policy(tiny_dir, ModelConfig(autocast="bfloat16"), CPU)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(4.0 if weight.ndim > 1 else 1.0)
    check_head(policy, temperature=1.0)
    assert can_share_prompts(policy)


def test_prompts_are_not_shared_under_a_sliding_window() -> None:
    policy = Policy(
        MistralForCausalLM(MistralConfig(**SMALL, sliding_window=16)).eval(), ModelConfig(), CPU
    )
    assert not can_share_prompts(policy)


def test_learned_positions_can_be_shared_too() -> None:
    shape = GPT2Config(
        vocab_size=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    policy = Policy(GPT2LMHeadModel(shape).eval(), ModelConfig(), CPU)
    check_head(policy, temperature=1.0)
    assert can_share_prompts(policy)


@pytest.mark.parametrize("kind", ["absent", "empty", "broken"])
def test_a_directory_that_is_no_model(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind != "absent":
        folder.mkdir()
    if kind == "broken":
        (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=str(folder)):
        load_policy(folder, ModelConfig(), CPU)


def test_a_device_that_is_not_there() -> None:
    assert pick_device("cpu") == CPU
    with pytest.raises(ModelError, match="'warp'"):
        pick_device("warp")
