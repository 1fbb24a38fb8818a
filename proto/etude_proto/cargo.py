"""Cargo: the outside of a group's trajectories, read without touching a token (stdlib only).

A group travels as one safetensors file: 8 bytes of little-endian header length, a JSON header that
names each tensor's type, shape and place, then the bytes. The report rides in the header's
metadata under `etude_report`. The sampler reads only this header; the inside is `tensors.py`.
Training batches travel as frames: the manifest, then the groups' bodies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from .v1 import Report, TrainingBatch

SAFETENSORS_MEDIA_TYPE = "application/vnd.safetensors"
FRAME_MEDIA_TYPE = "application/vnd.etude.training-batch"
REPORT_KEY = "etude_report"
WEIGHTS_KEY = "etude_component_weights"
"""Metadata: w of the group's lease as a JSON object, optional."""
LAYOUT_KEY = "etude_layout"
LAYOUT_VERSION = "1"
MAX_HEADER_BYTES = 8 << 20

TOKEN_TENSORS: dict[str, str] = {
    "tokens": "I32",
    "loss_mask": "U8",
    "logprobs": "F32",
    "versions": "I32",
}
"""Required tensors of shape [T] and their safetensors types."""

OPTIONAL_TENSORS: dict[str, str] = {"spans": "U8", "parent": "I32"}
"""`spans` has shape [T], `parent` [G]."""

_ITEM_BYTES = {"I32": 4, "U8": 1, "F32": 4}


class CargoError(ValueError):
    """A body that is not a group's cargo, or that disagrees with its report."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Type, shape and byte range of one tensor, as the header states them."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class CargoHeader:
    """What can be known of a body without reading its tensors."""

    report_json: bytes
    tensors: dict[str, TensorInfo]
    num_bytes: int
    weights_json: str | None = None

    @property
    def num_rollouts(self) -> int:
        """G, from the shape of `cu_seqlens`."""
        return self.tensors["cu_seqlens"].shape[0] - 1

    @property
    def num_tokens(self) -> int:
        """T, prompt and completion tokens of all rollouts."""
        return self.tensors["tokens"].shape[0]


def _tensor_info(name: str, entry: object) -> TensorInfo:
    if not isinstance(entry, dict):
        raise CargoError(f"tensor {name!r}: header entry is not an object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _is_counts(shape) or not _is_counts(offsets):
        raise CargoError(f"tensor {name!r}: header entry is malformed")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CargoError(f"tensor {name!r}: data_offsets are not a range")
    return TensorInfo(dtype, tuple(shape), offsets[0], offsets[1])


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _parse(header_json: bytes) -> tuple[dict[str, object], dict[str, str]]:
    """The tensors' entries and the metadata of a safetensors header."""
    try:
        header = json.loads(header_json.decode())
    except (ValueError, RecursionError) as error:
        raise CargoError("header is not JSON in UTF-8") from error
    if not isinstance(header, dict) or not header_json.startswith(b"{"):
        raise CargoError("header is not an object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CargoError("header metadata is not an object of strings")
    return header, metadata


def read_header(body: bytes | memoryview) -> CargoHeader:
    """Parse and check the header of a group's body.

    Raises:
        CargoError: not safetensors, unknown layout, a missing or misplaced tensor, wrong types.
    """
    if len(body) < 8:
        raise CargoError("body is shorter than a safetensors header")
    header_bytes = int.from_bytes(bytes(body[:8]), "little")
    if header_bytes > min(MAX_HEADER_BYTES, len(body) - 8):
        raise CargoError("header length exceeds the body")
    entries, metadata = _parse(bytes(body[8 : 8 + header_bytes]))
    if metadata.get(LAYOUT_KEY) != LAYOUT_VERSION:
        raise CargoError(f"unknown layout {metadata.get(LAYOUT_KEY)!r}, want {LAYOUT_VERSION!r}")
    if REPORT_KEY not in metadata:
        raise CargoError(f"header metadata has no {REPORT_KEY!r}")
    try:
        report_json = metadata[REPORT_KEY].encode()
    except UnicodeEncodeError as error:
        raise CargoError("the report in the header is not Unicode text") from error
    tensors = {name: _tensor_info(name, entry) for name, entry in entries.items()}
    _check_tensors(tensors, data_bytes=len(body) - 8 - header_bytes)
    return CargoHeader(report_json, tensors, len(body), metadata.get(WEIGHTS_KEY))


def _check_tensors(tensors: dict[str, TensorInfo], *, data_bytes: int) -> None:
    want = {**TOKEN_TENSORS, "cu_seqlens": "I32"}
    for name in want:
        if name not in tensors:
            raise CargoError(f"tensor {name!r} is missing")
    for name, info in tensors.items():
        dtype = want.get(name) or OPTIONAL_TENSORS.get(name)
        if dtype is None:
            raise CargoError(f"tensor {name!r} is not part of the layout")
        if info.dtype != dtype or len(info.shape) != 1:
            raise CargoError(f"tensor {name!r} is {info.dtype}{list(info.shape)}, want {dtype}[n]")
        if info.end - info.begin != info.shape[0] * _ITEM_BYTES[dtype]:
            raise CargoError(f"tensor {name!r}: offsets disagree with the shape")
    _check_coverage(tensors, data_bytes=data_bytes)
    num_tokens = tensors["tokens"].shape[0]
    for name in (*TOKEN_TENSORS, "spans"):
        if name in tensors and tensors[name].shape[0] != num_tokens:
            raise CargoError(
                f"tensor {name!r} has {tensors[name].shape[0]} items, want {num_tokens}"
            )
    num_rollouts = tensors["cu_seqlens"].shape[0] - 1
    if num_rollouts < 1:
        raise CargoError("cu_seqlens must have G + 1 items, G >= 1")
    if num_tokens < num_rollouts:
        raise CargoError("every rollout must have at least one token")
    if "parent" in tensors and tensors["parent"].shape[0] != num_rollouts:
        raise CargoError("parent must have one item per rollout")


def _check_coverage(tensors: dict[str, TensorInfo], *, data_bytes: int) -> None:
    """Safetensors allows neither holes nor overlaps nor spare bytes; who reads the body checks."""
    end = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != end:
            raise CargoError(f"tensor {name!r} begins at byte {info.begin}, want {end}")
        end = info.end
    if end != data_bytes:
        raise CargoError(f"the tensors end at byte {end}, the body at {data_bytes}")


def check_against_report(header: CargoHeader, report: Report) -> None:
    """Compare shapes with the report: one group, one trajectory per outcome, tokens that fit.

    Raises:
        CargoError: they disagree.
    """
    if len(report.groups) != 1:
        raise CargoError("a safetensors report holds exactly one group")
    outcomes = report.groups[0].attempts[-1].outcomes
    if header.num_rollouts != len(outcomes):
        raise CargoError(
            f"cu_seqlens describes {header.num_rollouts} rollouts, the report {len(outcomes)}"
        )
    num_completion_tokens = sum(outcome.num_tokens for outcome in outcomes)
    if num_completion_tokens > header.num_tokens:
        raise CargoError(
            f"the report counts {num_completion_tokens} completion tokens, "
            f"the tensors hold {header.num_tokens} tokens"
        )


def pack_frame(manifest: bytes, bodies: Sequence[bytes]) -> bytes:
    """One training batch as bytes: manifest length (8, little endian), manifest, bodies."""
    return b"".join((len(manifest).to_bytes(8, "little"), manifest, *bodies))


def unpack_frame(frame: bytes) -> tuple[TrainingBatch, Iterator[memoryview]]:
    """Split a frame into its manifest and the groups' bodies (views, in manifest order).

    Raises:
        CargoError: truncated or inconsistent frame.
        pydantic.ValidationError: the manifest is not a `TrainingBatch`.
    """
    if len(frame) < 8:
        raise CargoError("frame is shorter than its length field")
    end = 8 + int.from_bytes(frame[:8], "little")
    if end > len(frame):
        raise CargoError("frame is truncated in its manifest")
    manifest = TrainingBatch.model_validate_json(frame[8:end])
    view = memoryview(frame)[end:]
    for ref in manifest.groups:
        if min(ref.offset, ref.num_bytes) < 0 or ref.offset + ref.num_bytes > len(view):
            raise CargoError(f"frame is truncated: group of {ref.task_id} lies outside")
    return manifest, (view[ref.offset : ref.offset + ref.num_bytes] for ref in manifest.groups)
