"""Trajectories: the inside of a group's cargo (numpy and safetensors; extra `tensors`).

Layout: packed and variable-length, one file a group, see `GroupTrajectories`. Written by the
rollout service, read by the trainer; the sampler never imports this module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from .cargo import (
    LAYOUT_KEY,
    LAYOUT_VERSION,
    OPTIONAL_TENSORS,
    REPORT_KEY,
    TOKEN_TENSORS,
    WEIGHTS_KEY,
    CargoError,
    check_against_report,
    read_header,
)
from .v1 import Report

TEXTS_KEY = "etude_texts"
"""Metadata: what each rollout said, as a JSON list; for people only, and never read back."""
MAX_TEXT_CHARS = 4000
"""Longest text of a rollout: it shares the run's byte budget with the tokens (our choice)."""
SPAN_COMPONENTS = ("format", "tool_name", "param_name", "param_value")
"""Components that have tokens of their own: tags, the tool's name, parameter names, values."""


@dataclass(frozen=True, slots=True)
class GroupTrajectories:
    """The token-level record of a group's G rollouts, concatenated: T tokens in all."""

    tokens_T: NDArray[np.int32]
    """Prompt and completion token ids."""
    loss_mask_T: NDArray[np.uint8]
    """1 where the policy produced the token (and it is trained on), else 0."""
    logprobs_T: NDArray[np.float32]
    """Log-probability under the distribution sampled from, in nats; 0 where not sampled."""
    versions_T: NDArray[np.int32]
    """Policy version that produced each token; -1 for prompt and tool tokens."""
    cu_seqlens: NDArray[np.int32]
    """[G + 1]: rollout j is tokens `cu_seqlens[j]:cu_seqlens[j + 1]`."""
    spans_T: NDArray[np.uint8] | None = None
    """Which reward component a token belongs to: 0 none, k + 1 for `SPAN_COMPONENTS[k]`."""
    parent_G: NDArray[np.int32] | None = None
    """The rollout a branch was cloned from; -1 for roots."""
    component_weights: Mapping[str, float] | None = None
    """w of the lease under which the group was rolled out, by component."""
    texts: tuple[str, ...] | None = None
    """What each rollout's policy said, for people to read; at most `MAX_TEXT_CHARS` of each."""

    @property
    def num_rollouts(self) -> int:
        """G."""
        return len(self.cu_seqlens) - 1


def _check_arrays(group: GroupTrajectories) -> None:
    num_tokens = len(group.tokens_T)
    arrays: list[tuple[str, np.ndarray | None, type[np.generic], int | None]] = [
        ("tokens", group.tokens_T, np.int32, num_tokens),
        ("loss_mask", group.loss_mask_T, np.uint8, num_tokens),
        ("logprobs", group.logprobs_T, np.float32, num_tokens),
        ("versions", group.versions_T, np.int32, num_tokens),
        ("cu_seqlens", group.cu_seqlens, np.int32, None),
        ("spans", group.spans_T, np.uint8, num_tokens),
        ("parent", group.parent_G, np.int32, group.num_rollouts),
    ]
    for name, array, dtype, length in arrays:
        if array is None:
            continue
        if array.dtype != dtype or array.ndim != 1:
            raise CargoError(
                f"{name} is {array.dtype}{list(array.shape)}, want {dtype.__name__}[n]"
            )
        if length is not None and len(array) != length:
            raise CargoError(f"{name} has {len(array)} items, want {length}")


def validate(group: GroupTrajectories, report: Report) -> None:
    """Check the tensors against themselves and the report.

    Raises:
        CargoError: lengths, order, masks, versions or log-probabilities disagree.
    """
    _check_arrays(group)
    cu = group.cu_seqlens.astype(np.int64)  # differences must not wrap
    num_tokens = len(group.tokens_T)
    if len(cu) < 2 or cu[0] != 0 or cu[-1] != num_tokens or np.any(np.diff(cu) <= 0):
        raise CargoError("cu_seqlens must rise from 0 to the number of tokens")
    if np.any(group.tokens_T < 0):
        raise CargoError("tokens must not be negative")
    if np.any(group.loss_mask_T > 1):
        raise CargoError("loss_mask must be 0 or 1")
    parents = group.parent_G
    if parents is not None and (np.any(parents < -1) or np.any(parents >= group.num_rollouts)):
        raise CargoError("parent must be a rollout of the group, or -1")
    sampled = group.loss_mask_T == 1
    if not np.all(np.isfinite(group.logprobs_T)):
        raise CargoError("logprobs must be finite")
    if np.any(group.logprobs_T[sampled] > 1e-4):
        raise CargoError("logprobs of sampled tokens must not be positive")
    if np.any(group.versions_T[sampled] < 0):
        raise CargoError("sampled tokens must carry their policy version")
    outcomes = report.groups[0].attempts[-1].outcomes
    if len(outcomes) != group.num_rollouts:
        raise CargoError("one trajectory per outcome is required")
    for j, outcome in enumerate(outcomes):
        part = slice(int(cu[j]), int(cu[j + 1]))
        num_trained = int(sampled[part].sum())
        if num_trained > outcome.num_tokens:
            raise CargoError(
                f"rollout {j}: {num_trained} tokens in the loss, {outcome.num_tokens} reported"
            )


def _pack(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A safetensors file whose bytes depend on the content only.

    The library orders the metadata at random, so that a group encoded again would be another body
    under the same idempotency key. Wide types come first, so that every tensor is aligned.
    """
    header: dict[str, object] = {"__metadata__": metadata}
    parts: list[bytes] = []
    end = 0
    for name, array in sorted(tensors.items(), key=lambda item: -item[1].itemsize):
        begin, end = end, end + array.nbytes
        dtype = {**TOKEN_TENSORS, **OPTIONAL_TENSORS, "cu_seqlens": "I32"}[name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
        parts.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *parts))


def _weights(values: object) -> dict[str, float]:
    """
    Raises:
        CargoError: not an object of finite numbers that are not negative.
    """
    if not isinstance(values, dict):
        raise CargoError("component weights are not an object")
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0.0:
            raise CargoError(f"component weight {name!r} is {value!r}")
    return {name: float(value) for name, value in values.items()}


def _read_weights(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        return _weights(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise CargoError(f"component weights: {error}") from error


def encode_group(group: GroupTrajectories, report: Report) -> bytes:
    """A group and its report as one safetensors body.

    Raises:
        CargoError: they disagree (see `validate`).
    """
    validate(group, report)
    tensors: dict[str, np.ndarray] = {
        "tokens": np.ascontiguousarray(group.tokens_T),
        "loss_mask": np.ascontiguousarray(group.loss_mask_T),
        "logprobs": np.ascontiguousarray(group.logprobs_T),
        "versions": np.ascontiguousarray(group.versions_T),
        "cu_seqlens": np.ascontiguousarray(group.cu_seqlens),
    }
    if group.spans_T is not None:
        tensors["spans"] = np.ascontiguousarray(group.spans_T)
    if group.parent_G is not None:
        tensors["parent"] = np.ascontiguousarray(group.parent_G)
    metadata = {LAYOUT_KEY: LAYOUT_VERSION, REPORT_KEY: report.model_dump_json()}
    if group.component_weights is not None:
        metadata[WEIGHTS_KEY] = json.dumps(_weights(dict(group.component_weights)), sort_keys=True)
    if group.texts is not None:
        metadata[TEXTS_KEY] = json.dumps([text[:MAX_TEXT_CHARS] for text in group.texts])
    body = _pack(tensors, metadata)
    check_against_report(read_header(body), report)
    return body


def decode_group(body: bytes | memoryview) -> tuple[GroupTrajectories, Report]:
    """The inverse of `encode_group`, with every check.

    Raises:
        CargoError: not a group's cargo, or tensors that disagree with the report.
        pydantic.ValidationError: the report in the header is not a `Report`.
    """
    header = read_header(body)
    report = Report.model_validate_json(header.report_json)
    check_against_report(header, report)
    try:
        tensors = load(bytes(body))
    except SafetensorError as error:
        raise CargoError(f"not a safetensors body: {error}") from error
    group = GroupTrajectories(
        tokens_T=tensors["tokens"],
        loss_mask_T=tensors["loss_mask"],
        logprobs_T=tensors["logprobs"],
        versions_T=tensors["versions"],
        cu_seqlens=tensors["cu_seqlens"],
        spans_T=tensors.get("spans"),
        parent_G=tensors.get("parent"),
        component_weights=_read_weights(header.weights_json),
    )
    validate(group, report)
    return group, report
