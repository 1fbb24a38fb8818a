"""Weights from hand to hand: what a rollout worker asks a trainer for, and what it is told.

A trainer that offers transfers answers `POST /v1/weights/{directory}/transfers` of its own small
API. The bytes then go from its process to the engine's processes, not over HTTP.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Id, Request, Response, Text, Version


class TransferBackend(StrEnum):
    """How the bytes travel."""

    GLOO = "gloo"
    """TCP, from host memory to host memory."""
    NCCL = "nccl"
    """Between GPUs."""


class TransferRequest(Request):
    """Open a transfer of one published version."""

    backend: TransferBackend
    world_size: int = Field(ge=1, le=4096)
    """Processes of the engine that receive; the trainer is one more, and the first."""


class TensorSpec(Response):
    """One tensor, in the order in which they are sent."""

    name: Text
    dtype: Text
    """As torch calls it: `float32`, `bfloat16`, ..."""
    shape: list[int]


class ProbeSet(Response):
    """The parity probe that was published with the weights."""

    token_ids: list[list[int]]
    logprobs: list[list[float]]
    """`logprobs[i][t]` is log p(token_ids[i][t + 1] | token_ids[i][: t + 1]) in nats."""


class Transfer(Response):
    """An open transfer: the trainer waits for the engine's processes to join."""

    session: Id
    """Unique; the processes of one transfer meet under it."""
    backend: TransferBackend
    policy_version: Version
    master_address: Text
    """Host of the store where they meet."""
    master_port: int
    world_size: int
    """With the trainer, whose rank is 0."""
    timeout_s: float
    """How long each side waits for the other at any point."""
    tensors: list[TensorSpec]
    probes: ProbeSet | None = None
