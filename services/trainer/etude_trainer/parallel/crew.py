"""The crew: the processes of one trainer, and what they say to each other besides gradients.

Orders and agreements travel over a gloo group of their own that waits as long as it must (a batch
may take hours to come); gradients and weights use the default group, with its ordinary timeout.
A process that dies breaks the connection, so that the others end too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import ConfigError, RankLost, TrainerError

PATIENCE: Final = timedelta(days=30)
"""Longest wait for an order."""

Progress = Callable[[int, int], None]
_GO, _GIVE_UP = 0, 1


class StepAbandoned(TrainerError):
    """The step was given up, by the leader or by all; never leaves a follower."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the leader wants done: a name, a JSON-able argument, and bytes."""

    name: str
    text: str = ""
    bodies: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Crew:
    """One process among `size`; alone by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number among the processes of this machine: which of its devices is ours."""
    control: dist.ProcessGroup | None = None
    saving: dist.ProcessGroup | None = None
    """For checkpoints, which are written beside the next step."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody else."""
        return self.size == 1

    def send(self, order: Order) -> None:
        """Give an order to all others (rank 0 only)."""
        if self.is_alone:
            return
        sizes = [len(body) for body in order.bodies]
        header = json.dumps([order.name, order.text, sizes]).encode()
        with naming_losses():
            self._broadcast(b"".join([header, *order.bodies]), num_header=len(header))

    def receive(self) -> Order:
        """Wait for the next order (all but rank 0)."""
        with naming_losses():
            payload, num_header = self._broadcast(None)
        name, text, sizes = json.loads(payload[:num_header])
        bodies: list[bytes] = []
        begin = num_header
        for size in sizes:
            bodies.append(payload[begin : begin + size])
            begin += size
        return Order(str(name), str(text), tuple(bodies))

    def in_step(self, progress: Progress) -> Progress:
        """The leader's progress calls, of which every rank hears whether to go on.

        All ranks call it equally often. Where the leader's raises, the others' raise
        `StepAbandoned`: nobody is left waiting in a collective call.
        """
        if self.is_alone:
            return progress

        def call(done: int, total: int) -> None:
            verdict = torch.zeros(1, dtype=torch.int64)
            if self.leads:
                try:
                    progress(done, total)
                except BaseException:
                    verdict[0] = _GIVE_UP
                    dist.broadcast(verdict, src=0, group=self.control)
                    raise
            with naming_losses():
                dist.broadcast(verdict, src=0, group=self.control)
            if int(verdict) == _GIVE_UP:
                raise StepAbandoned("the leader gave the step up")

        return call

    def gather(self, text: str) -> list[str]:
        """Every rank's text, in rank order, on every rank."""
        if self.is_alone:
            return [text]
        found: list[str] = []
        with naming_losses():
            for rank in range(self.size):
                payload, _ = self._broadcast(text.encode() if rank == self.rank else None, src=rank)
                found.append(payload.decode())
        return found

    def sum(self, values_N: Tensor) -> Tensor:
        """The sum over ranks of a tensor on the host, on every rank; changes it in place."""
        if not self.is_alone:
            with naming_losses():
                dist.all_reduce(values_N, group=self.control)
        return values_N

    def most(self, number: int) -> int:
        """The largest of every rank's numbers, on every rank."""
        if self.is_alone:
            return int(number)
        largest = torch.tensor([number], dtype=torch.int64)
        with naming_losses():
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.control)
        return int(largest)

    def _broadcast(
        self, payload: bytes | None, *, src: int = 0, num_header: int = 0
    ) -> tuple[bytes, int]:
        sizes = torch.tensor([len(payload or b""), num_header], dtype=torch.int64)
        dist.broadcast(sizes, src=src, group=self.control)
        if int(sizes[0]) == 0:
            return b"", int(sizes[1])
        if payload is None:
            data = torch.empty(int(sizes[0]), dtype=torch.uint8)
        else:
            data = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        dist.broadcast(data, src=src, group=self.control)
        return data.numpy().tobytes() if payload is None else payload, int(sizes[1])

    def leave(self) -> None:
        """End the process group; the last thing that a process does."""
        if not self.is_alone:
            dist.destroy_process_group()


ALONE: Final = Crew()


def join_crew(*, device: str) -> Crew:
    """The crew that `torchrun` started us in; alone without it.

    Args:
        device: the setting `ETUDE_TRAINER_DEVICE`: decides between NCCL and gloo.

    Raises:
        ConfigError: half of torchrun's variables, or a device that ranks cannot share.
    """
    given = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if given["WORLD_SIZE"] in (None, "1"):
        return ALONE
    missing = sorted(name for name, value in given.items() if value is None)
    if missing:
        raise ConfigError(f"WORLD_SIZE is set, but not {', '.join(missing)}: start with torchrun")
    rank, size, local_rank = (int(given[n] or 0) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if ":" in device:
        raise ConfigError(f"ETUDE_TRAINER_DEVICE: {device}: each rank takes its own; give cuda")
    on_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_cuda:
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"local rank {local_rank}, but {torch.cuda.device_count()} CUDA devices here"
            )
        torch.cuda.set_device(local_rank)
    with naming_losses():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo")
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
        saving = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert control is not None
    assert saving is not None
    return Crew(rank, size, local_rank, control, saving)


@contextmanager
def naming_losses() -> Iterator[None]:
    """Turn a broken connection to another rank into one of our errors.

    Raises:
        RankLost: a collective call failed.
    """
    try:
        yield
    except dist.DistError as error:
        raise RankLost(f"another rank is gone: {_first_line(error)}") from error
    except RuntimeError as error:
        if not _is_gloo(error):
            raise
        raise RankLost(f"another rank is gone: {_first_line(error)}") from error


def _is_gloo(error: RuntimeError) -> bool:
    return any(word in str(error) for word in ("gloo", "Connection closed by peer"))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
