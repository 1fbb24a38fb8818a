"""Processes that train together: rank 0 talks to the sampler, the others hear what it was told.

`facade.py` calls them; every rank makes the same calls in the same order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

if TYPE_CHECKING:
    import torch

ValueT = TypeVar("ValueT")


class Ranks(Protocol):
    """What a `Curriculum` needs to know of the processes that train together."""

    @property
    def rank(self) -> int:
        """Of this process; 0 talks."""

    @property
    def size(self) -> int:
        """How many there are."""

    def broadcast(self, value: ValueT | None) -> ValueT:
        """What rank 0 passed, on every rank; it must pickle."""

    def gather(self, value: ValueT) -> list[ValueT]:
        """What each rank passed, in order of rank, on rank 0; elsewhere an empty list."""


@dataclass(frozen=True, slots=True)
class OneRank:
    """A process that trains alone."""

    rank: int = 0
    size: int = 1

    def broadcast(self, value: ValueT | None) -> ValueT:
        """The value itself."""
        return cast("ValueT", value)

    def gather(self, value: ValueT) -> list[ValueT]:
        """The value itself."""
        return [value]


class AnotherProcess:
    """Stands for ranks in a process that is none of them, and says so when it is used."""

    @property
    def rank(self) -> int:
        """None."""
        raise RuntimeError(_NOT_HERE)

    @property
    def size(self) -> int:
        """None."""
        raise RuntimeError(_NOT_HERE)

    def broadcast(self, value: ValueT | None) -> ValueT:
        """None."""
        raise RuntimeError(_NOT_HERE)

    def gather(self, value: ValueT) -> list[ValueT]:
        """None."""
        raise RuntimeError(_NOT_HERE)


_NOT_HERE = (
    "this process is no rank of torch.distributed: call the curriculum in the trainer's processes, "
    "or let data-loader workers talk by themselves (ranks=OneRank())"
)


LONGEST_WAIT = timedelta(days=7)
"""How long the other ranks wait for rank 0 (our choice): a sampler may be away for a weekend."""


class TorchRanks:
    """The ranks of `torch.distributed`, over a process group of its own or another.

    Every rank makes it. Its own group talks over gloo, beside the trainer's collectives, and its
    calls may take as long as rank 0 waits for the sampler: a week.

    Only the process that belongs to the group may use them: in a data-loader worker there is no
    group, or a copy of one on which every call hangs.

    Raises:
        RuntimeError: the process group is not initialised; or this is another process, such as a
            data-loader worker.
    """

    def __init__(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        import torch.distributed as dist

        if not dist.is_initialized():
            raise RuntimeError("torch.distributed is not initialised: call init_process_group")
        if group is None and dist.get_world_size() > 1 and dist.is_gloo_available():
            group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        self._group = group
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[type[AnotherProcess], tuple[()]]:
        return AnotherProcess, ()

    def __deepcopy__(self, memo: dict[int, object]) -> TorchRanks:
        return self

    @property
    def rank(self) -> int:
        """Of this process."""
        if os.getpid() != self._pid:
            return AnotherProcess().rank
        import torch.distributed as dist

        return dist.get_rank(self._group)

    @property
    def size(self) -> int:
        """How many there are."""
        if os.getpid() != self._pid:
            return AnotherProcess().size
        import torch.distributed as dist

        return dist.get_world_size(self._group)

    def broadcast(self, value: ValueT | None) -> ValueT:
        """What rank 0 passed."""
        import torch.distributed as dist

        parcel: list[object] = [value]
        first = 0 if self._group is None else dist.get_global_rank(self._group, 0)
        dist.broadcast_object_list(parcel, src=first, group=self._group)
        return cast("ValueT", parcel[0])

    def gather(self, value: ValueT) -> list[ValueT]:
        """What each rank passed, on rank 0."""
        import torch.distributed as dist

        parcels: list[object] = [None] * self.size
        dist.all_gather_object(parcels, value, group=self._group)
        return cast("list[ValueT]", parcels) if self.rank == 0 else []


def find_ranks() -> Ranks:
    """The ranks of torch.distributed, if this process has initialised them; else one rank."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return OneRank()
    return TorchRanks() if torch.distributed.is_initialized() else OneRank()


def on_first(ranks: Ranks, work: Callable[[], ValueT]) -> ValueT:
    """What the work returns on rank 0, on every rank; what it raises, too."""
    if ranks.size == 1:
        return work()
    parcel: tuple[ValueT | None, Exception | None] | None = None
    if ranks.rank == 0:
        try:
            parcel = (work(), None)
        except Exception as error:  # every rank raises it, or they would wait for ever
            parcel = (None, error)
    value, failure = ranks.broadcast(parcel)
    if failure is not None:
        raise failure
    return cast("ValueT", value)
