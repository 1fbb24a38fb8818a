"""Operations of a pass against torch's own counter, counts against brute force, shares by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from etude_trainer.batch import decode_batch
from etude_trainer.batching import build_micro_batch
from etude_trainer.config import ModelConfig, parse_config
from etude_trainer.layout import Row
from etude_trainer.model import Policy, load_policy
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn, plan_step
from etude_trainer.throughput import (
    PassWork,
    forward_flops,
    peak_flops,
    per_second,
    training_flops,
    utilisation,
)
from support.token_sequences import branches
from support.trajectories import sample_batch

CPU = torch.device("cpu")
PROMPT, LENGTHS = 20, (5, 9, 12)


@pytest.fixture(scope="module")
def policy(tiny_dir: Path) -> Policy:
    return load_policy(tiny_dir, ModelConfig(), CPU)


@pytest.mark.parametrize(
    "rows",
    [
        [Row((0, 1, 2), PROMPT, PROMPT + sum(LENGTHS))],
        [Row((index,), 0, PROMPT + length) for index, length in enumerate(LENGTHS)],
    ],
    ids=["shared", "apart"],
)
def test_counts_are_those_of_the_tensors(rows: list[Row]) -> None:
    micro = build_micro_batch(rows, branches(PROMPT, LENGTHS), [0, 5, 14, 26])
    assert micro.work.num_padded == micro.ids_BL.numel()
    assert micro.work.num_tokens == sum(row.num_tokens for row in rows)
    assert micro.work.num_trained == len(micro.token_n) == sum(LENGTHS)
    if micro.mask_B1LL is not None:
        assert micro.work.num_pairs == int(micro.mask_B1LL.sum())
        assert micro.work.padding_share == 0.0
    else:
        assert micro.work.num_pairs == sum(n * (n + 1) // 2 for n in (25, 29, 32))
        assert micro.work.padding_share == pytest.approx(1 - 86 / 96)


def test_operations_are_those_that_torch_counts(policy: Policy) -> None:
    """On one row whose attention computes every pair: torch counts what is masked, too."""
    total = PROMPT + sum(LENGTHS)
    rows = [Row((0, 1, 2), PROMPT, total)]
    micro = build_micro_batch(rows, branches(PROMPT, LENGTHS), [0, 5, 14, 26])
    norms = sum(p.numel() for n, p in policy.module.named_parameters() if "norm" in n)
    dense = PassWork(micro.work.num_tokens, total, total * total, micro.work.num_trained)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        lp_n, _ = policy.token_logprobs(micro)
    want = forward_flops(policy.cost, dense) - 2 * norms * total
    assert forward.get_total_flops() == pytest.approx(want, rel=1e-6)
    with FlopCounterMode(display=False) as backward:
        lp_n.sum().backward()
    # Torch's counter does not know products that add in place, as the output layer's gradient does.
    unseen = 2 * policy.cost.per_trained * micro.work.num_trained
    both = forward.get_total_flops() + backward.get_total_flops() + unseen
    assert both == pytest.approx(training_flops(policy.cost, dense) - 6 * norms * total, rel=1e-6)


@pytest.mark.parametrize(("mini_batch_groups", "inner_epochs"), [(0, 1), (2, 3)])
def test_a_step_tells_what_it_computed(
    tiny_dir: Path, mini_batch_groups: int, inner_epochs: int
) -> None:
    batch = f"mini_batch_groups = {mini_batch_groups}\ninner_epochs = {inner_epochs}"
    config = parse_config(f"[objective]\nentropy_coef = 0.0\n[batch]\n{batch}\n")
    learner = build_learner(tiny_dir, config, device="cpu")
    frame = sample_batch(learner.policy.module)
    groups = decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups
    work, cost = plan_step(groups, learner).work, learner.policy.cost
    metrics = learn(learner, groups, step=0, progress=lambda _done, _total: None)
    scored = 0.0 if inner_epochs == 1 else forward_flops(cost, work)
    assert metrics["flops"] == pytest.approx(scored + inner_epochs * training_flops(cost, work))
    assert metrics["num_tokens_computed"] == work.num_tokens < metrics["num_tokens"]
    assert metrics["padding_share"] == work.padding_share > 0.0
    assert metrics["entropy"] > 1.0, "it is watched without a bonus, too"


def test_work_adds_up() -> None:
    total = PassWork(1, 2, 3, 4) + PassWork(10, 20, 30, 40)
    assert total == PassWork(11, 22, 33, 44)
    assert PassWork().padding_share == 0.0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10G", 70e12),
        ("Tesla V100-SXM2-16GB", None),
        ("AMD EPYC", None),
    ],
)
def test_peaks_go_by_the_words_of_a_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_utilisation_is_a_share_of_all_devices() -> None:
    assert utilisation(989e12, seconds=2.0, peak=989e12) == 0.5
    assert utilisation(989e12, seconds=2.0, peak=989e12, num_devices=4) == 0.125
    assert utilisation(1.0, seconds=1.0, peak=None) == 0.0
    assert utilisation(1.0, seconds=0.0, peak=1.0) == 0.0
    assert per_second(10, 4.0) == 2.5
