"""Trajectories: what is encoded is decoded, bit for bit; what disagrees is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from safetensors.numpy import load

from etude_proto.cargo import WEIGHTS_KEY, CargoError
from etude_proto.tensors import GroupTrajectories, decode_group, encode_group, validate
from etude_proto.v1 import Attempt, FinishReason, GroupReport, Outcome, Report

LENGTHS = [3, 1, 4]


def report_of(num_tokens_G: list[int]) -> Report:
    """One group whose rollouts count these completion tokens."""
    outcomes = [
        Outcome(
            components={"format": 1.0},
            reward=1.0,
            success=True,
            finish_reason=FinishReason.STOP,
            num_tokens=num_tokens,
        )
        for num_tokens in num_tokens_G
    ]
    group = GroupReport(task_id="task_1", attempts=[Attempt(outcomes=outcomes)])
    return Report(fence=1, groups=[group])


REPORT = report_of(LENGTHS)


def group_of(lengths: list[int]) -> GroupTrajectories:
    """Trajectories of these lengths; every token but the first of each rollout was sampled."""
    cu = np.cumsum([0, *lengths], dtype=np.int32)
    num_tokens = int(cu[-1])
    mask = np.ones(num_tokens, dtype=np.uint8)
    mask[cu[:-1]] = 0
    return GroupTrajectories(
        tokens_T=np.arange(num_tokens, dtype=np.int32),
        loss_mask_T=mask,
        logprobs_T=(mask * -0.5).astype(np.float32),
        versions_T=np.where(mask == 1, 5, -1).astype(np.int32),
        cu_seqlens=cu,
    )


GROUP = group_of(LENGTHS)
ARRAYS = (
    "tokens_T",
    "loss_mask_T",
    "logprobs_T",
    "versions_T",
    "cu_seqlens",
    "spans_T",
    "parent_G",
)


def assert_same(left: GroupTrajectories, right: GroupTrajectories) -> None:
    """Equal bit for bit, types included."""
    for name in ARRAYS:
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes(), name


@st.composite
def groups(draw: st.DrawFn) -> tuple[GroupTrajectories, Report]:
    """Any valid group with its report."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    num_tokens, num_rollouts = sum(lengths), len(lengths)
    mask = draw(npst.arrays(np.uint8, num_tokens, elements=st.integers(0, 1)))
    logprob = st.floats(-100.0, 0.0, width=32)
    parents: NDArray[np.int32] | None = None
    if draw(st.booleans()):
        element = st.integers(-1, num_rollouts - 1)
        parents = draw(npst.arrays(np.int32, num_rollouts, elements=element))
    spans = draw(st.none() | npst.arrays(np.uint8, num_tokens))
    group = GroupTrajectories(
        tokens_T=draw(npst.arrays(np.int32, num_tokens, elements=st.integers(0, 2**31 - 1))),
        loss_mask_T=mask,
        logprobs_T=draw(npst.arrays(np.float32, num_tokens, elements=logprob)),
        versions_T=draw(npst.arrays(np.int32, num_tokens, elements=st.integers(0, 2**31 - 1))),
        cu_seqlens=np.cumsum([0, *lengths], dtype=np.int32),
        spans_T=spans,
        parent_G=parents,
    )
    return group, report_of(lengths)


@given(groups())
def test_groups_round_trip(case: tuple[GroupTrajectories, Report]) -> None:
    group, report = case
    body = encode_group(group, report)
    decoded, decoded_report = decode_group(body)
    assert decoded_report == report
    assert decoded.num_rollouts == group.num_rollouts
    assert_same(decoded, group)
    assert encode_group(decoded, decoded_report) == body
    assert_same(decode_group(memoryview(body))[0], group)


def test_bodies_are_aligned_and_readable_by_the_library() -> None:
    body = encode_group(GROUP, REPORT)
    assert (8 + int.from_bytes(body[:8], "little")) % 8 == 0
    assert set(load(body)) == {"tokens", "loss_mask", "logprobs", "versions", "cu_seqlens"}


def test_views_are_packed() -> None:
    wide = np.arange(16, dtype=np.int32)[::2]
    group = replace(GROUP, tokens_T=wide)
    assert_same(decode_group(encode_group(group, REPORT))[0], replace(GROUP, tokens_T=wide.copy()))


def _set(name: str, index: int, value: float) -> GroupTrajectories:
    array = getattr(GROUP, name).copy()
    array[index] = value
    return replace(GROUP, **{name: array})


def _cu(*values: int) -> GroupTrajectories:
    return replace(GROUP, cu_seqlens=np.array(values, dtype=np.int32))


WRONG = {
    "negative token": _set("tokens_T", 0, -1),
    "mask of two": _set("loss_mask_T", 1, 2),
    "logprob not a number": _set("logprobs_T", 1, np.nan),
    "logprob minus infinity": _set("logprobs_T", 1, -np.inf),
    "logprob not a number outside the loss": _set("logprobs_T", 0, np.nan),
    "positive logprob": _set("logprobs_T", 1, 0.5),
    "sampled without a version": _set("versions_T", 1, -1),
    "empty rollout": _cu(0, 3, 3, 8),
    "rollouts backwards": _cu(0, 4, 3, 8),
    "not from zero": _cu(1, 3, 4, 8),
    "not to the end": _cu(0, 3, 4, 7),
    "beyond the end": _cu(0, 3, 4, 9),
    "differences that wrap": _cu(0, 2**31 - 1, -(2**31), -1, 8),
    "no rollout": _cu(0),
    "nothing": _cu(),
    "one rollout too few": _cu(0, 3, 8),
    "short mask": replace(GROUP, loss_mask_T=GROUP.loss_mask_T[:-1]),
    "short logprobs": replace(GROUP, logprobs_T=GROUP.logprobs_T[:-1]),
    "short versions": replace(GROUP, versions_T=GROUP.versions_T[:-1]),
    "short spans": replace(GROUP, spans_T=np.zeros(3, dtype=np.uint8)),
    "short parents": replace(GROUP, parent_G=np.full(2, -1, dtype=np.int32)),
    "parent outside the group": replace(GROUP, parent_G=np.array([-1, 0, 3], dtype=np.int32)),
    "parent below none": replace(GROUP, parent_G=np.array([-1, 0, -2], dtype=np.int32)),
    "tokens as int64": replace(GROUP, tokens_T=GROUP.tokens_T.astype(np.int64)),
    "logprobs as float64": replace(GROUP, logprobs_T=GROUP.logprobs_T.astype(np.float64)),
    "mask as boolean": replace(GROUP, loss_mask_T=GROUP.loss_mask_T.astype(np.bool_)),
    "tokens in two dimensions": replace(GROUP, tokens_T=GROUP.tokens_T.reshape(2, 4)),
}


@pytest.mark.parametrize("group", WRONG.values(), ids=WRONG.keys())
def test_wrong_groups_are_refused(group: GroupTrajectories) -> None:
    with pytest.raises(CargoError):
        validate(group, REPORT)
    with pytest.raises(CargoError):
        encode_group(group, REPORT)


def test_more_trained_tokens_than_reported_are_refused() -> None:
    with pytest.raises(CargoError, match="rollout 2: 3 tokens in the loss, 2 reported"):
        encode_group(GROUP, report_of([3, 1, 2]))


def test_a_body_is_checked_again_when_it_is_read() -> None:
    body = encode_group(GROUP, REPORT)
    header_bytes = int.from_bytes(body[:8], "little")
    damaged = body[: 8 + header_bytes] + b"\xff" * (len(body) - 8 - header_bytes)
    with pytest.raises(CargoError):
        decode_group(damaged)


def test_component_weights_travel_in_the_metadata() -> None:
    plain, report = decode_group(encode_group(GROUP, REPORT))
    assert plain.component_weights is None
    weighted = replace(GROUP, component_weights={"tool_name": 0.5, "format": 1.0})
    body = encode_group(weighted, REPORT)
    found, _ = decode_group(body)
    assert found.component_weights == {"format": 1.0, "tool_name": 0.5}
    assert report == REPORT
    turned = replace(GROUP, component_weights={"format": 1.0, "tool_name": 0.5})
    assert encode_group(turned, REPORT) == body, "the same content, the same bytes"
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(CargoError, match="component weight"):
            encode_group(replace(GROUP, component_weights={"format": bad}), REPORT)


@pytest.mark.parametrize("text", ["[1.0]", '{"format": "x"}', '{"format": true}', "{", "1"])
def test_component_weights_that_are_none_are_refused(text: str) -> None:
    body = encode_group(replace(GROUP, component_weights={"format": 1.0}), REPORT)
    size = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + size])
    header["__metadata__"][WEIGHTS_KEY] = text
    new = json.dumps(header).encode()
    with pytest.raises(CargoError, match="component weight"):
        decode_group(len(new).to_bytes(8, "little") + new + body[8 + size :])
