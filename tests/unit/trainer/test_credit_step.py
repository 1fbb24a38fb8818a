"""A whole step under span credit: its gradient is the one written by hand, through the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from etude_trainer.batch import Group, decode_batch
from etude_trainer.config import parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.credit import batch_credit
from etude_trainer.stages.learn import Learner, learn
from support.trajectories import sample_batch

CONFIG = """
[optimizer]
lr = 1e-12
max_grad_norm = 1e9
[objective]
entropy_coef = 0.0
importance_cap = 0.0
[advantage]
kind = "decoupled"
credit = "spans"
[batch]
mini_batch_groups = 0
micro_batch_tokens = 90
"""


def marked(group: Group, seed: int) -> Group:
    """The group with made-up parts, weights and spans."""
    rng = np.random.default_rng(seed)
    parts = tuple(
        {"tool_name": float(rng.integers(2)), "param_value": float(rng.integers(3)) / 2}
        for _ in group.rewards_G
    )
    sequences = tuple(
        one and replace(one, spans_T=rng.integers(0, 5, len(one.tokens_T)).astype(np.uint8))
        for one in group.sequences
    )
    weights = {"tool_name": 1.5, "param_value": 0.5}
    return replace(group, components_G=parts, component_weights=weights, sequences=sequences)


def gradient(learner: Learner, groups: tuple[Group, ...]) -> tuple[torch.Tensor, dict[str, float]]:
    """What one update sees, and the step's metrics."""
    seen: list[torch.Tensor] = []

    def keep(*_: object) -> None:
        grads = [p.grad for p in learner.policy.parameters() if p.grad is not None]
        seen.append(torch.cat([g.flatten() for g in grads]).clone())

    hook = learner.optimizer.register_step_pre_hook(keep)
    try:
        metrics = learn(learner, groups, step=0, progress=lambda _done, _total: None)
    finally:
        hook.remove()
    (flat,) = seen
    return flat, metrics


def test_the_gradient_is_that_of_weighted_log_probabilities(tiny_dir: Path) -> None:
    """On its own rollouts: minus the mean over tokens of advantage times grad log p."""
    config = parse_config(CONFIG)
    learner = build_learner(tiny_dir, config, device="cpu")
    frame = sample_batch(learner.policy.module, seed=3, num_groups=2)
    decoded = decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups
    groups = tuple(marked(group, seed) for seed, group in enumerate(decoded))
    advantage_N = batch_credit(groups, config.advantage, config.shaping).advantage_N
    assert advantage_N is not None
    sequences = [one for group in groups for one in group.sequences if one is not None]
    found, metrics = gradient(learner, groups)

    by_hand = build_learner(tiny_dir, config, device="cpu")
    terms = []
    for one in sequences:
        ids = torch.from_numpy(one.tokens_T.astype(np.int64))
        logits = by_hand.policy.module(input_ids=ids[None]).logits[0]
        lp = logits[:-1].log_softmax(dim=-1).gather(1, ids[1:, None])[:, 0]
        terms.append(lp[torch.from_numpy(one.trained_T[1:])])
    lp_N = torch.cat(terms)
    (-(advantage_N.float() * lp_N).mean()).backward()
    grads = [p.grad for p in by_hand.policy.parameters() if p.grad is not None]
    want = torch.cat([g.flatten() for g in grads])
    assert float(want.norm()) > 1e-3
    torch.testing.assert_close(found, want, atol=1e-5 * float(want.abs().max()), rtol=1e-4)
    assert metrics["spans_missing_share"] == 0.0

    whole = torch.cat(
        [
            value.expand(one.num_trained)
            for one, value in zip(
                sequences,
                batch_credit(groups, config.advantage, config.shaping).advantages_S,
                strict=True,
            )
        ]
    )
    assert not torch.allclose(advantage_N, whole), "spans must matter here"


def test_sequences_without_spans_are_told(tiny_dir: Path) -> None:
    learner = build_learner(tiny_dir, parse_config(CONFIG), device="cpu")
    frame = sample_batch(learner.policy.module, seed=4, num_groups=1)
    groups = decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups
    _, metrics = gradient(learner, groups)
    assert metrics["spans_missing_share"] == pytest.approx(1.0)
