"""Decoding training batches: what is kept, what is left out, what stops the trainer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from etude_proto.tensors import decode_group, encode_group
from etude_proto.v1 import Attempt, GroupReport
from etude_trainer.batch import DecodedBatch, Group, decode_batch
from etude_trainer.config import AdvantageConfig, ShapingConfig
from etude_trainer.errors import ModelMismatch
from etude_trainer.stages.credit import shaping_share
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
    packed = pack(silent, task_id="task_a", reward=lambda c: float(bool(c)), version=3)
    (group,) = decode(packed).groups
    assert group.rewards_G == (1.0, 1.0, 1.0, 0.0)
    assert group.sequences[3] is None


def reflected(num_reflectors: int) -> bytes:
    """Four planners and some reflectors: rewards R and, shaped, R(second) - R(first)."""
    packed = pack(
        rollouts(4 + num_reflectors),
        task_id="task_a",
        reward=lambda said: (said[0] - 10) / 8,
        version=3,
    )
    cargo, report = decode_group(packed)
    outcomes = report.groups[0].attempts[0].outcomes
    planners = [o.model_copy(update={"role": "planner"}) for o in outcomes[:4]]
    reflectors = [
        o.model_copy(update={"role": "reflector", "reward": 1.0, "shaping": -0.5 * j})
        for j, o in enumerate(outcomes[4:])
    ]
    attempts = [
        report.groups[0].attempts[0],
        Attempt(outcomes=[*planners, *reflectors], scaffold_kind="reflect", merged=True, number=1),
    ]
    groups = [GroupReport(task_id="task_a", attempts=attempts)]
    return encode_group(cargo, report.model_copy(update={"groups": groups}))


def test_roles_are_groups_of_their_own() -> None:
    """Planners are compared with planners, reflectors with reflectors, tokens with neither."""
    planners, reflectors = decode(reflected(3)).groups
    assert planners.rewards_G == (0.0, 0.125, 0.25, 0.375)
    assert reflectors.rewards_G == (1.0, 0.5, 0.0)
    assert reflectors.rule_rewards_G == (1.0, 1.0, 1.0)
    tokens = [s.tokens_T.tolist() for s in reflectors.sequences if s is not None]
    assert tokens == [[5, 6, 7, 10 + j, 20] for j in (4, 5, 6)]


def test_a_single_reflection_has_nothing_to_be_compared_with() -> None:
    batch = decode(reflected(1))
    assert [len(group.rewards_G) for group in batch.groups] == [4]
    assert batch.refused == ()


def bonus_group(rewards: tuple[float, ...], *, bonus: float) -> Group:
    (group,) = decode(body(num=len(rewards))).groups
    shaped = (rewards[0] + bonus, *rewards[1:])
    return replace(group, rewards_G=shaped, rule_rewards_G=rewards)


def test_the_share_of_a_bonus_among_all_advantages() -> None:
    """R (1.01, 1, 1, 1) beside (1, 0, 0, 0): all of the first, which the floor keeps small."""
    shaping = ShapingConfig()
    equal = bonus_group((1.0, 1.0, 1.0, 1.0), bonus=0.01)
    mixed = bonus_group((1.0, 0.0, 0.0, 0.0), bonus=0.0)
    floor = AdvantageConfig(std_floor=0.1)
    share = shaping_share([equal, mixed], floor, shaping)
    assert share == pytest.approx(0.15 / (0.15 + 3.0), abs=5e-5)
    assert shaping_share([equal, mixed], AdvantageConfig(), shaping) == pytest.approx(0.5, abs=1e-3)
    assert shaping_share([mixed], floor, shaping) == 0.0
    assert shaping_share([], floor, shaping) == 0.0


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
