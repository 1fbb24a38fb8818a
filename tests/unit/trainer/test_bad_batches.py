"""Batches that cannot be trained on: named, left out, or refused before any weight has moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from etude_proto.cargo import read_header
from etude_trainer.batch import DecodedBatch, Group, decode_batch
from etude_trainer.config import parse_config
from etude_trainer.errors import ModelMismatch
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner, learn, plan_step
from support.trajectories import Rollout, frame_of, pack, sample_batch

FRAME_VERSION = 3


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def body(version: int = FRAME_VERSION, *, lp: float = -1.0) -> bytes:
    rollouts = [Rollout([5, 6, 7], [10 + j, 20], [lp, lp]) for j in range(4)]
    return pack(rollouts, task_id="task_a", reward=lambda c: (c[0] - 10) / 4, version=version)


def decode(*bodies: bytes) -> DecodedBatch:
    frame = frame_of(bodies, version=FRAME_VERSION)
    return decode_batch(frame.manifest, frame.bodies, vocab_size=512)


def with_value(packed: bytes, tensor: str, index: int, value: float) -> bytes:
    """The same body with one number of one tensor changed, as a broken worker would send it."""
    header = int.from_bytes(packed[:8], "little")
    info = read_header(packed).tensors[tensor]
    dtype = {"F32": np.float32, "I32": np.int32}[info.dtype]
    at = 8 + header + info.begin + 4 * index
    return packed[:at] + np.array([value], dtype=dtype).tobytes() + packed[at + 4 :]


@pytest.mark.parametrize(
    ("tensor", "index", "value", "reason"),
    [
        ("logprobs", 3, float("nan"), "logprobs must be finite"),
        ("logprobs", 4, 0.5, "logprobs of sampled tokens must not be positive"),
        ("cu_seqlens", 4, 19, "cu_seqlens must rise from 0 to the number of tokens"),
        ("cu_seqlens", 2, 5, "cu_seqlens must rise from 0 to the number of tokens"),
        ("tokens", 3, -1, "tokens must not be negative"),
        ("versions", 3, -1, "sampled tokens must carry their policy version"),
        ("versions", 3, FRAME_VERSION + 1, "a token of version 4 in a batch of version 3"),
        ("versions", 3, 1, "a token of version 1, the report's oldest is 3"),
    ],
)
def test_tensors_that_disagree_are_named_and_left_out(
    tensor: str, index: int, value: float, reason: str
) -> None:
    batch = decode(with_value(body(), tensor, index, value), body())
    assert len(batch.groups) == 1
    assert batch.refused == (f"task_0: {reason}",)


def test_versions_of_failed_rollouts_do_not_count() -> None:
    """What a worker left of a rollout that timed out says nothing."""
    rollouts = [Rollout([5, 6, 7], [10 + j, 20], [-1.0, -1.0]) for j in range(4)]
    packed = pack(rollouts, task_id="task_a", reward=lambda c: c[0] / 20, version=3, failures=(0,))
    batch = decode(with_value(packed, "versions", 3, 1))
    assert batch.refused == ()


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()]).clone()


@pytest.mark.parametrize("mini_batch_groups", [0, 1])
def test_an_engine_of_another_model_is_told_before_any_weight_moves(
    tiny_dir: Path, mini_batch_groups: int
) -> None:
    """Tokens of this very version that this model would hardly give: another model sampled them."""
    text = f"[batch]\nmini_batch_groups = {mini_batch_groups}\n[optimizer]\nlr = 1e-2\n"
    learner = build_learner(tiny_dir, parse_config(text), device="cpu")
    groups = decode(body(lp=-0.01), body(lp=-0.01)).groups
    before = weights(learner)
    with pytest.raises(ModelMismatch, match=r"6\.\d\d nats off .* another model, vocabulary"):
        learn(learner, groups, step=3, progress=quiet)
    assert torch.equal(weights(learner), before)
    assert not learner.optimizer.state
    unchecked = parse_config(f"{text}[objective]\nmax_gap_nats = 0\n")
    metrics = learn(
        build_learner(tiny_dir, unchecked, device="cpu"), groups, step=3, progress=quiet
    )
    assert metrics["logprob_gap_mean"] > 6.0


def test_stale_tokens_are_no_evidence_of_another_model(tiny_dir: Path) -> None:
    learner = build_learner(tiny_dir, parse_config(""), device="cpu")
    frame = frame_of([body(lp=-0.01, version=1)], version=1)
    manifest = frame.manifest.model_copy(update={"policy_version": 3})
    groups = decode_batch(manifest, frame.bodies, vocab_size=512).groups
    assert not plan_step(groups, learner).fresh_N.any()
    metrics = learn(learner, groups, step=3, progress=quiet)
    assert metrics["num_updates"] == 1.0
    assert (metrics["token_lag_mean"], metrics["token_lag_max"]) == (2.0, 2.0)


def groups_of(learner: Learner, **options: int) -> tuple[Group, ...]:
    frame = sample_batch(learner.policy.module, **options)
    return decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups


def test_truncated_rollouts_leave_the_loss_but_not_the_mean(tiny_dir: Path) -> None:
    """Two of four were cut off: their tokens weigh nothing, the others' advantages stay."""
    learner = build_learner(
        tiny_dir, parse_config("[shaping]\nmask_truncated = true\n"), device="cpu"
    )
    (group,) = groups_of(learner, num_groups=1, seed=3)
    cut = replace(group, truncated_G=(True, False, True, False))
    whole, masked = plan_step((group,), learner), plan_step((cut,), learner)
    assert masked.credit.advantages_S.tolist() == whole.credit.advantages_S[[1, 3]].tolist()
    assert masked.table.lengths_S.tolist() == whole.table.lengths_S[[1, 3]].tolist()
    assert float(masked.updates[0].weight_N.sum()) == pytest.approx(1.0)
    assert masked.groups[0].num_trained_G == tuple(whole.table.lengths_S.tolist())
    metrics = learn(learner, (cut,), step=0, progress=quiet)
    assert (metrics["truncated_share"], metrics["masked_share"]) == (0.5, 0.5)
    assert metrics["num_sequences"] == 2.0
    everything = replace(group, truncated_G=(True,) * 4)
    nothing = learn(learner, (everything,), step=0, progress=quiet)
    assert (nothing["num_updates"], nothing["masked_share"]) == (0.0, 1.0)
