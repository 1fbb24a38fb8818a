"""Receiving weights from a trainer's process group, on the host; torch alone, no vLLM.

The trainer is rank 0 and sends every tensor as bytes, in the order of the transfer's list. Each
transfer has a group of its own, under its own prefix of the trainer's store, so that one that
breaks leaves nothing behind. Used by the plug-in and by the `transformers` engine. The `nccl` side
has not been run on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, cast

from pydantic import ValidationError

from etude_proto.v1.weights import TensorSpec, Transfer, TransferBackend

from ..engines.base import WeightsRefused

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store  # type: ignore[attr-defined]


class Work(Protocol):
    """A collective under way."""

    def wait(self, timeout: timedelta) -> bool:
        """Block until it is done; raises RuntimeError when it failed or took too long."""


class Group(Protocol):
    """What is used of torch's process groups."""

    def broadcast(self, tensor: torch.Tensor, root: int) -> Work:
        """Send from rank `root` to all."""

    def abort(self) -> None:
        """Leave at once."""


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parse_transfer(given: object) -> Transfer:
    """A transfer as it came over vLLM's route.

    Raises:
        WeightsRefused: it is none.
    """
    try:
        return Transfer.model_validate(given)
    except ValidationError as error:
        raise WeightsRefused(f"not a transfer: {error}") from error


def shapes_of(transfer: Transfer) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that will come.

    Raises:
        WeightsRefused: a name occurs twice, a shape is negative, a type is unknown.
    """
    import torch

    shapes: dict[str, tuple[int, ...]] = {}
    for spec in transfer.tensors:
        if spec.name in shapes or min(spec.shape, default=0) < 0:
            raise WeightsRefused(f"{spec.name} is named twice, or has shape {spec.shape}")
        if not isinstance(getattr(torch, spec.dtype, None), torch.dtype):
            raise WeightsRefused(f"{spec.name} has the unknown type {spec.dtype}")
        shapes[spec.name] = tuple(spec.shape)
    return shapes


def receive(transfer: Transfer, *, rank: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Every tensor by name, on the host; blocks until the last has come.

    Args:
        rank: of this process in the group, 1 or more.
        device: through which `nccl` receives.

    Raises:
        WeightsRefused: the trainer died, was too slow, or never came.
    """
    tensors: dict[str, torch.Tensor] = {}
    try:
        with joined(transfer, rank=rank) as group:
            for spec in transfer.tensors:
                tensors[spec.name] = _receive_one(group, spec, transfer, device=device)
    except RuntimeError as error:  # torch.distributed's errors, of which timeouts are one
        where = f"after {len(tensors)} of {len(transfer.tensors)} tensors"
        reason = str(error).splitlines()[0]
        raise WeightsRefused(f"transfer {transfer.session} broke {where}: {reason}") from error
    return tensors


def _receive_one(
    group: Group, spec: TensorSpec, transfer: Transfer, *, device: torch.device
) -> torch.Tensor:
    import torch

    dtype = getattr(torch, spec.dtype)
    shape = tuple(spec.shape)
    num_bytes = torch.Size(shape).numel() * torch.empty((), dtype=dtype).element_size()
    place = device if transfer.backend is TransferBackend.NCCL else torch.device("cpu")
    received = torch.empty(num_bytes, dtype=torch.uint8, device=place)
    group.broadcast(received, 0).wait(timedelta(seconds=transfer.timeout_s))
    return received.cpu().view(dtype).reshape(shape)


@contextmanager
def joined(transfer: Transfer, *, rank: int) -> Iterator[Group]:
    """The transfer's process group, outside torch's default one; gone when the block is left."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    timeout = timedelta(seconds=transfer.timeout_s)
    store = TCPStore(
        transfer.master_address, transfer.master_port, is_master=False, timeout=timeout
    )
    prefixed = PrefixStore(transfer.session, store)
    make = _nccl if transfer.backend is TransferBackend.NCCL else _gloo
    group = make(prefixed, rank, transfer)
    try:
        yield group
    finally:
        group.abort()


def _gloo(store: Store, rank: int, transfer: Transfer) -> Group:
    from torch.distributed import ProcessGroupGloo

    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._timeout = timedelta(seconds=transfer.timeout_s)
    if transfer.master_address in LOOPBACK:
        device = ProcessGroupGloo.create_device(hostname=transfer.master_address)
    else:  # torch's own choice: by the host's name, or by GLOO_SOCKET_IFNAME
        device = ProcessGroupGloo.create_default_device()
    options._devices = [device]
    return cast(Group, ProcessGroupGloo(store, rank, transfer.world_size, options))


def _nccl(store: Store, rank: int, transfer: Transfer) -> Group:
    from torch.distributed import ProcessGroupNCCL

    options = ProcessGroupNCCL.Options()
    options._timeout = timedelta(seconds=transfer.timeout_s)
    with _blocking_wait():
        return cast(Group, ProcessGroupNCCL(store, rank, transfer.world_size, options))


@contextmanager
def _blocking_wait() -> Iterator[None]:
    """`wait` is to block and to raise. Otherwise torch's watchdog would end the whole process when
    a collective takes too long, and the engine with it; the variable is read at construction."""
    name = "TORCH_NCCL_BLOCKING_WAIT"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
