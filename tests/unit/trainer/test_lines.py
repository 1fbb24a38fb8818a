"""Lines: rows end to end, without padding, with the numbers of rows.

The layout and who sees whom are the same on every device. The block-sparse kernel has a forward
pass on a CPU, which is compared here; its backward pass is compared on CUDA when a model is loaded.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM

from etude_trainer import attention
from etude_trainer.batch import TokenSequence
from etude_trainer.batching import MicroBatch, build_micro_batch, token_table
from etude_trainer.checks import settle_attention
from etude_trainer.config import ModelConfig
from etude_trainer.errors import ModelError
from etude_trainer.layout import Budget, Row, pack_rows, plan_group
from etude_trainer.model import Policy, load_policy
from support.token_sequences import branches

CPU = torch.device("cpu")
LINES = ModelConfig(attention="lines")


@pytest.fixture
def policy(tiny_dir: Path) -> Policy:
    return load_policy(tiny_dir, LINES, CPU)


def groups() -> list[list[TokenSequence]]:
    """Three groups of unlike prompts and completions."""
    return [
        branches(17, (5, 9, 2, 30), seed=1),
        branches(40, (12,), seed=2),
        branches(3, (25, 60, 1), seed=3),
    ]


def planned(
    budget: Budget, made: list[list[TokenSequence]]
) -> tuple[list[list[Row]], list[TokenSequence]]:
    """Micro-batches of these groups, and all sequences in their order."""
    flat = [sequence for group in made for sequence in group]
    rows: list[Row] = []
    first = 0
    for group in made:
        rows += plan_group(list(enumerate(group, start=first)), budget)
        first += len(group)
    return pack_rows(rows, budget), flat


def micro_batches(budget: Budget) -> list[MicroBatch]:
    """The same as tensors."""
    batches, flat = planned(budget, groups())
    offsets = token_table(flat, torch.zeros(len(flat))).offsets
    return [build_micro_batch(rows, flat, offsets, as_line=budget.uses_lines) for rows in batches]


def learned(policy: Policy, budget: Budget) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [N] and the flat gradient of a weighted sum of them."""
    lp_N = torch.zeros(sum(len(micro.token_n) for micro in micro_batches(budget)))
    policy.module.zero_grad()
    for micro in micro_batches(budget):
        lp_n, _ = policy.token_logprobs(micro)
        lp_N[micro.token_n] = lp_n.detach()
        (lp_n * torch.sin(micro.token_n.float())).sum().backward()
    gradients = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return lp_N, torch.cat(gradients).clone()


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("max_tokens", [100, 4096])
def test_lines_give_the_numbers_of_rows(policy: Policy, share: bool, max_tokens: int) -> None:
    rows = Budget(4096, share_prompts=False, pair_cost=1e-4)
    lines = Budget(max_tokens, share_prompts=share, pair_cost=1e-4, uses_lines=True)
    (want, slope), (found, own) = learned(policy, rows), learned(policy, lines)
    torch.testing.assert_close(found, want, atol=2e-6, rtol=0)
    torch.testing.assert_close(own, slope, atol=1e-6 * float(slope.abs().max()), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_the_block_sparse_kernel_sees_what_the_dense_mask_shows(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(4096, share_prompts=True, pair_cost=1e-4, uses_lines=True)
    (micro,) = micro_batches(budget)
    with torch.no_grad():
        want, _ = policy.token_logprobs(micro)
        monkeypatch.setattr(attention, "line_mask", attention.block_mask)
        found, _ = policy.token_logprobs(micro)
    assert not torch.equal(found, want), "both took the same path"
    torch.testing.assert_close(found, want, atol=2e-6, rtol=0)


def test_blocks_that_nobody_sees_are_skipped() -> None:
    rows = [Row((index,), 0, 256) for index in range(4)]
    flat = [sequence for seed in range(4) for sequence in branches(200, (56,), seed=seed)]
    micro = build_micro_batch(rows, flat, [0, 56, 112, 168, 224], as_line=True)
    assert micro.ids_BL.shape == (1, 1024)
    assert micro.trees_2L is not None
    mask = attention.block_mask(micro.trees_2L)
    assert mask.full_kv_num_blocks is not None
    assert int(mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()) == 4 * 3


@settings(max_examples=40, deadline=None)
@given(
    num_prompts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    max_tokens=st.integers(64, 600),
)
def test_a_line_is_never_over_the_budget_and_pads_less_than_a_block(
    num_prompts: list[int], lengths: list[int], max_tokens: int
) -> None:
    budget = Budget(max_tokens, share_prompts=True, pair_cost=1e-3, uses_lines=True)
    made = [branches(size, lengths, seed=size) for size in num_prompts]
    lines, flat = planned(budget, made)
    offsets = token_table(flat, torch.zeros(len(flat))).offsets
    seen: list[int] = []
    for rows in lines:
        micro = build_micro_batch(rows, flat, offsets, as_line=True)
        assert micro.work.num_tokens <= max_tokens or len(rows) == 1
        assert 0 <= micro.work.num_padded - micro.work.num_tokens < attention.BLOCK_TOKENS
        seen += [index for row in rows for index in row.sequences]
        assert micro.trees_2L is not None
        dense = attention.line_mask(micro.trees_2L)
        real_L = micro.trees_2L[0] >= 0
        assert isinstance(dense, torch.Tensor)
        assert int(dense[0, 0][real_L][:, real_L].sum()) == micro.work.num_pairs
        assert not dense[0, 0][real_L][:, ~real_L].any()
        assert dense[0, 0].any(dim=1).all(), "a position is blind"
    assert sorted(seen) == list(range(len(flat)))


def test_the_check_keeps_lines_that_agree(policy: Policy) -> None:
    settle_attention(policy, required=True)
    assert policy.uses_lines


def test_the_check_gives_up_lines_that_do_not_agree(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(trees_2L: torch.Tensor) -> torch.Tensor:
        return torch.eye(trees_2L.shape[1], dtype=torch.bool)[None, None]

    monkeypatch.setattr(attention, "line_mask", blind)
    with pytest.raises(ModelError, match=r"has no lines: log-probabilities off by"):
        settle_attention(policy, required=True)
    settle_attention(policy, required=False)
    assert not policy.uses_lines


def test_a_sliding_window_has_no_lines() -> None:
    shape = MistralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=16,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    module = MistralForCausalLM(shape).eval()
    module.set_attn_implementation(attention.install())
    policy = Policy(module, LINES, CPU)
    settle_attention(policy, required=False)
    assert not policy.uses_lines


def test_rows_are_what_a_processor_gets(tiny_dir: Path) -> None:
    assert not attention.prefers_lines(CPU)
    assert not load_policy(tiny_dir, ModelConfig(), CPU).uses_lines
