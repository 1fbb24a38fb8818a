"""Decoding training batches: what is kept, what is left out, what stops the trainer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etude_proto.tensors import decode_group, encode_group
from etude_trainer.batch import DecodedBatch, decode_batch
from etude_trainer.errors import ModelMismatch
from support.tiny_model import VOCAB_SIZE
from support.trajectories import Rollout, frame_of, pack


def rollouts(num: int = 4) -> list[Rollout]:
    return [
        Rollout(prompt=[5, 6, 7], completion=[10 + j, 20], logprobs=[-1.0, -0.25])
        for j in range(num)
    ]


def body(*, failures: tuple[int, ...] = (), num: int = 4, version: int = 3) -> bytes:
    return pack(
        rollouts(num),
        task_id="task_a",
        reward=lambda completion: (completion[0] - 10) / 4,
        version=version,
        failures=failures,
    )


def decode(*bodies: bytes, vocab_size: int = VOCAB_SIZE) -> DecodedBatch:
    frame = frame_of(bodies, version=3)
    return decode_batch(frame.manifest, frame.bodies, vocab_size=vocab_size)


def test_a_group_as_it_was_reported() -> None:
    batch = decode(body())
    (group,) = batch.groups
    assert group.rewards_G == (0.0, 0.25, 0.5, 0.75)
    assert group.components == {"format": 0.375}
    assert batch.refused == ()
    sequence = group.sequences[1]
    assert sequence is not None
    assert sequence.tokens_T.tolist() == [5, 6, 7, 11, 20]
    assert sequence.trained_T.tolist() == [False, False, False, True, True]
    assert sequence.lp_rollout_T.tolist() == [0.0, 0.0, 0.0, -1.0, -0.25]
    assert (sequence.num_trained, sequence.first_trained) == (2, 3)


def test_infrastructure_failures_are_no_rollouts() -> None:
    (group,) = decode(body(failures=(0, 2))).groups
    assert group.rewards_G == (0.25, 0.75)
    assert len(group.sequences) == 2


def test_one_valid_rollout_is_no_group() -> None:
    batch = decode(body(failures=(0, 1, 2)), body())
    assert len(batch.groups) == 1
    assert "fewer than two valid rollouts" in batch.refused[0]


def test_a_damaged_body_is_left_out_and_named() -> None:
    damaged = bytearray(body())
    damaged[-4:] = b"\xff\xff\xff\x7f"  # the last tensor in the file is cut to nonsense
    batch = decode(bytes(damaged), body(), b"not safetensors at all")
    assert len(batch.groups) == 1
    assert [reason.split(":")[0] for reason in batch.refused] == ["task_0", "task_2"]


def test_a_token_outside_the_vocabulary_means_the_wrong_model() -> None:
    with pytest.raises(ModelMismatch, match="token 20, the model's vocabulary ends at 20"):
        decode(body(), vocab_size=20)


def test_a_rollout_without_trained_tokens_counts_in_the_mean_only() -> None:
    silent = [*rollouts(3), Rollout(prompt=[5, 6, 7], completion=[], logprobs=[])]
    packed = pack(silent, task_id="task_a", reward=lambda c: float(bool(c)))
    (group,) = decode(packed).groups
    assert group.rewards_G == (1.0, 1.0, 1.0, 0.0)
    assert group.sequences[3] is None


def test_parts_weights_and_spans_come_along() -> None:
    cargo, report = decode_group(body())
    assert decode(body()).groups[0].component_weights == {}
    spans_T = np.where(cargo.loss_mask_T == 1, 4, 0).astype(np.uint8)
    marked = replace(cargo, spans_T=spans_T, component_weights={"format": 1.25})
    (group,) = decode(encode_group(marked, report)).groups
    assert group.component_weights == {"format": 1.25}
    assert [one["format"] for one in group.components_G] == [0.0, 0.25, 0.5, 0.75]
    sequence = group.sequences[1]
    assert sequence is not None
    assert sequence.spans_T is not None
    assert sequence.spans_T.tolist() == [0, 0, 0, 4, 4]
    strange = replace(marked, spans_T=spans_T + np.uint8(1))
    batch = decode(encode_group(strange, report), body())
    assert "spans name a component that there is not" in batch.refused[0]
    assert len(batch.groups) == 1
