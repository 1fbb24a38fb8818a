"""Process groups of weight transfers: one class over gloo and nccl, outside torch's default group.

The rollout service has the other end (its `weights/receiving.py`). Used by `sending.py`. `nccl` has
not been run on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, cast

import torch

from etude_proto.v1.weights import Transfer, TransferBackend

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


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


@contextmanager
def open_group(store: Store, transfer: Transfer, *, rank: int) -> Iterator[Group]:
    """The group of a transfer, when everybody has joined; gone when the block is left.

    Raises:
        RuntimeError: somebody did not come in time.
    """
    make = _nccl if transfer.backend is TransferBackend.NCCL else _gloo
    group = make(store, rank, transfer)
    try:
        yield group
    finally:
        group.abort()


def _gloo(store: Store, rank: int, transfer: Transfer) -> Group:
    from torch.distributed import ProcessGroupGloo

    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._timeout = timedelta(seconds=transfer.timeout_s)
    if transfer.master_address in _LOOPBACK:
        device = ProcessGroupGloo.create_device(hostname=transfer.master_address)
    else:  # torch's own choice: by the host's name, or by GLOO_SOCKET_IFNAME
        device = ProcessGroupGloo.create_default_device()
    options._devices = [device]
    return cast(Group, ProcessGroupGloo(store, rank, transfer.world_size, options))


def _nccl(store: Store, rank: int, transfer: Transfer) -> Group:
    """`wait` is to block and to raise; otherwise torch's watchdog would end the process of a
    collective that takes too long. The variable is read when the group is made."""
    from torch.distributed import ProcessGroupNCCL

    options = ProcessGroupNCCL.Options()
    options._timeout = timedelta(seconds=transfer.timeout_s)
    name = "TORCH_NCCL_BLOCKING_WAIT"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        return cast(Group, ProcessGroupNCCL(store, rank, transfer.world_size, options))
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
