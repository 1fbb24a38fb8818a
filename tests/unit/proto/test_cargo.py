"""Cargo headers and frames: every malformed body is a `CargoError`, never another exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etude_proto.cargo import (
    LAYOUT_KEY,
    MAX_HEADER_BYTES,
    REPORT_KEY,
    CargoError,
    check_against_report,
    pack_frame,
    read_header,
    unpack_frame,
)
from etude_proto.tensors import GroupTrajectories, decode_group, encode_group
from etude_proto.v1 import Report
from support.contract import example

Header = dict[str, Any]

REPORT = Report.model_validate_json(example("Report"))
NUM_ROLLOUTS = len(REPORT.groups[0].attempts[-1].outcomes)
LENGTHS = [50, 43, 60, 45]


def trajectories() -> GroupTrajectories:
    """Four rollouts with every optional tensor."""
    num_tokens = sum(LENGTHS)
    rng = np.random.default_rng(7)
    mask = (rng.random(num_tokens) < 0.3).astype(np.uint8)
    return GroupTrajectories(
        tokens_T=rng.integers(0, 512, num_tokens, dtype=np.int32),
        loss_mask_T=mask,
        logprobs_T=np.where(mask == 1, -rng.random(num_tokens), 0.0).astype(np.float32),
        versions_T=np.where(mask == 1, 3, -1).astype(np.int32),
        cu_seqlens=np.cumsum([0, *LENGTHS], dtype=np.int32),
        spans_T=rng.integers(0, 4, num_tokens).astype(np.uint8),
        parent_G=np.array([-1, 0, 0, -1], dtype=np.int32),
    )


BODY = encode_group(trajectories(), REPORT)
HEADER_BYTES = int.from_bytes(BODY[:8], "little")
HEADER: Header = json.loads(BODY[8 : 8 + HEADER_BYTES])
DATA = BODY[8 + HEADER_BYTES :]


def with_header(header: object, data: bytes = DATA) -> bytes:
    """A body around another header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def changed(change: Callable[[Header], object]) -> bytes:
    """The body with its header changed in place."""
    header: Header = json.loads(json.dumps(HEADER))
    change(header)
    return with_header(header)


def test_the_header_tells_shapes_and_report() -> None:
    header = read_header(BODY)
    assert Report.model_validate_json(header.report_json) == REPORT
    assert (header.num_rollouts, header.num_tokens) == (NUM_ROLLOUTS, sum(LENGTHS))
    assert header.num_bytes == len(BODY)
    assert read_header(memoryview(BODY)) == header
    check_against_report(header, REPORT)
    assert read_header(changed(lambda header: None)).tensors == header.tensors


def test_optional_tensors_are_optional() -> None:
    group = trajectories()
    bare = GroupTrajectories(
        group.tokens_T, group.loss_mask_T, group.logprobs_T, group.versions_T, group.cu_seqlens
    )
    header = read_header(encode_group(bare, REPORT))
    assert set(header.tensors) == {"tokens", "loss_mask", "logprobs", "versions", "cu_seqlens"}


def test_truncation_is_noticed_at_every_byte() -> None:
    for end in range(len(BODY)):
        with pytest.raises(CargoError):
            read_header(BODY[:end])


def test_spare_bytes_are_noticed() -> None:
    with pytest.raises(CargoError, match="body at"):
        read_header(BODY + b"\0")


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES + 1, 2**40, 2**64 - 1])
def test_wrong_header_lengths_are_noticed(length: int) -> None:
    with pytest.raises(CargoError):
        read_header(length.to_bytes(8, "little") + BODY[8:])


def test_the_header_is_bounded() -> None:
    padding = b" " * MAX_HEADER_BYTES
    with pytest.raises(CargoError, match="header length"):
        read_header(with_header(json.dumps(HEADER).encode() + padding))


DAMAGE: dict[str, Callable[[Header], object]] = {
    "tensor missing": lambda h: h.pop("tokens"),
    "cu_seqlens missing": lambda h: h.pop("cu_seqlens"),
    "tensor unknown": lambda h: h.update(extra=h["spans"]),
    "wrong dtype": lambda h: h["tokens"].update(dtype="F32"),
    "wider dtype": lambda h: h["tokens"].update(dtype="I64"),
    "dtype no text": lambda h: h["tokens"].update(dtype=4),
    "dtype missing": lambda h: h["tokens"].pop("dtype"),
    "two dimensions": lambda h: h["tokens"].update(shape=[2, sum(LENGTHS) // 2]),
    "no dimension": lambda h: h["tokens"].update(shape=[]),
    "negative shape": lambda h: h["tokens"].update(shape=[-1]),
    "fractional shape": lambda h: h["tokens"].update(shape=[198.0]),
    "shape as text": lambda h: h["tokens"].update(shape=["198"]),
    "shape as boolean": lambda h: h["parent"].update(shape=[True]),
    "huge shape": lambda h: h["tokens"].update(shape=[2**70]),
    "offsets missing": lambda h: h["tokens"].pop("data_offsets"),
    "one offset": lambda h: h["tokens"].update(data_offsets=[0]),
    "three offsets": lambda h: h["tokens"].update(data_offsets=[0, 1, 2]),
    "negative offsets": lambda h: h["tokens"].update(data_offsets=[-4, 788]),
    "offsets backwards": lambda h: h["tokens"].update(data_offsets=[792, 0]),
    "offsets out of range": lambda h: h["tokens"].update(data_offsets=[10**6, 10**6 + 792]),
    "offsets overlapping": lambda h: h["logprobs"].update(h["tokens"], dtype="F32"),
    "entry no object": lambda h: h.update(tokens=[]),
    "entry null": lambda h: h.update(tokens=None),
    "metadata missing": lambda h: h.pop("__metadata__"),
    "metadata no object": lambda h: h.update(__metadata__=[]),
    "metadata no text": lambda h: h["__metadata__"].update(extra=1),
    "report missing": lambda h: h["__metadata__"].pop(REPORT_KEY),
    "report no text": lambda h: h["__metadata__"].update({REPORT_KEY: {}}),
    "report not Unicode": lambda h: h["__metadata__"].update({REPORT_KEY: "\ud800"}),
    "layout missing": lambda h: h["__metadata__"].pop(LAYOUT_KEY),
    "layout unknown": lambda h: h["__metadata__"].update({LAYOUT_KEY: "2"}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_headers_are_refused(damage: Callable[[Header], object]) -> None:
    with pytest.raises(CargoError):
        read_header(changed(damage))


def test_lengths_of_tensors_agree() -> None:
    header: Header = json.loads(json.dumps(HEADER))
    for name, items in (("loss_mask", 100), ("cu_seqlens", 1), ("parent", 3), ("spans", 1)):
        body = _resized(header, name, items)
        with pytest.raises(CargoError, match=f"{name}|rollout"):
            read_header(body)


def _resized(header: Header, name: str, num_items: int) -> bytes:
    """A well-formed body in which one tensor has another length."""
    sizes = {"U8": 1, "I32": 4, "F32": 4}
    entries = {key: dict(value) for key, value in header.items() if key != "__metadata__"}
    entries[name]["shape"] = [num_items]
    end = 0
    for entry in entries.values():
        begin, end = end, end + entry["shape"][0] * sizes[entry["dtype"]]
        entry["data_offsets"] = [begin, end]
    return with_header({"__metadata__": header["__metadata__"], **entries}, bytes(end))


@pytest.mark.parametrize(
    "header",
    [b"", b"null", b"[]", b'"x"', b" {}", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}"],
    ids=lambda header: repr(header[:8]),
)
def test_headers_that_are_no_object_are_refused(header: bytes) -> None:
    with pytest.raises(CargoError):
        read_header(with_header(header))


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(CargoError):
        read_header(noise)


@given(position=st.integers(0, 8 + HEADER_BYTES - 1), value=st.integers(0, 255))
def test_one_wrong_byte_never_surprises(position: int, value: int) -> None:
    body = bytearray(BODY)
    body[position] = value
    try:
        decode_group(bytes(body))
    except (CargoError, ValidationError):
        return
    read_header(bytes(body))


def test_the_report_must_fit() -> None:
    header = read_header(BODY)
    group = REPORT.groups[0]
    two = REPORT.model_copy(update={"groups": [group, group]})
    with pytest.raises(CargoError, match="exactly one group"):
        check_against_report(header, two)
    attempt = group.attempts[-1]
    for outcomes in (attempt.outcomes[:-1], [*attempt.outcomes, attempt.outcomes[0]]):
        short = attempt.model_copy(update={"outcomes": outcomes})
        other = group.model_copy(update={"attempts": [short]})
        with pytest.raises(CargoError, match="cu_seqlens describes 4 rollouts"):
            check_against_report(header, REPORT.model_copy(update={"groups": [other]}))
    long = attempt.outcomes[0].model_copy(update={"num_tokens": 1000})
    outcomes = [long, *attempt.outcomes[1:]]
    other = group.model_copy(
        update={"attempts": [attempt.model_copy(update={"outcomes": outcomes})]}
    )
    with pytest.raises(CargoError, match="completion tokens"):
        check_against_report(header, REPORT.model_copy(update={"groups": [other]}))


def frame_of(bodies: list[bytes], *, num_bytes: int | None = None, shift: int = 0) -> bytes:
    """A training batch of these bodies, or one that lies about them."""
    manifest = json.loads(example("TrainingBatch"))
    ref, refs, offset = manifest["groups"][0], [], shift
    for body in bodies:
        size = len(body) if num_bytes is None else num_bytes
        refs.append({**ref, "offset": offset, "num_bytes": size})
        offset += len(body)
    return pack_frame(json.dumps({**manifest, "groups": refs}).encode(), bodies)


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_frames_round_trip(bodies: list[bytes]) -> None:
    manifest, views = unpack_frame(frame_of(bodies))
    assert [bytes(view) for view in views] == bodies
    assert len(manifest.groups) == len(bodies)


def test_truncated_frames_are_refused() -> None:
    frame = frame_of([b"one", b"two", b"three"])
    for end in range(len(frame)):
        with pytest.raises((CargoError, ValidationError)):
            unpack_frame(frame[:end])


@pytest.mark.parametrize(
    "frame",
    [
        frame_of([b"one"], num_bytes=4),
        frame_of([b"one"], num_bytes=-1),
        frame_of([b"one"], shift=1),
        frame_of([b"one"], shift=-1),
        (2**63).to_bytes(8, "little") + b"{}",
    ],
)
def test_lying_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(CargoError):
        unpack_frame(frame)
