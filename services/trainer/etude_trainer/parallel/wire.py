"""The wire: a sharded model's collective calls, counted, so that a rank whose pass failed can make
up for those that the others still wait for.

A pass gathers and reduces layer by layer, in an order that does not depend on what is computed. A
rank that runs out of memory in the middle drops its pass and makes an empty one instead, in which
the calls that it has already made are left out: nobody waits for ever, and the sums of that pass,
which are wrong now, are thrown away by all (`stages/room.py`). `sharding.py` installs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

# FSDP2's interface of `set_custom_all_gather`, which exports the method, not the type.
from torch.distributed.fsdp._fully_shard._fsdp_api import AllGather, ReduceScatter


class Wire:
    """Counts one rank's collective calls within a pass; leaves some out when told to."""

    def __init__(self) -> None:
        self.num_made = 0
        """Since the pass began."""
        self.num_left_out = 0
        """How many of the next ones are not to be made: they were."""

    def install(self, module: nn.Module) -> None:
        """Take the calls of a module and of all sharded modules in it."""
        gather, scatter = _Gather(self), _Scatter(self)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_custom_all_gather(gather)
                part.set_custom_reduce_scatter(scatter)

    def begin(self) -> None:
        """A pass begins."""
        self.num_made = 0

    def call(self, collective: Callable[[], dist.Work | None], output: Tensor) -> dist.Work | None:
        """Make a call, or leave it out: its output is zeros then."""
        if self.num_left_out:
            self.num_left_out -= 1
            output.zero_()
            return None
        work = collective()
        self.num_made += 1
        return work


class _Buffers:
    """Memory of a call: a tensor of its own."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def allocate(
        self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """An empty tensor."""
        return torch.empty(*size, dtype=dtype, device=device)


class _Gather(_Buffers, AllGather):
    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        async_op: bool = False,
    ) -> dist.Work | None:
        return self._wire.call(
            lambda: dist.all_gather_single(
                output_tensor, input_tensor, group=group, async_op=async_op
            ),
            output_tensor,
        )


class _Scatter(_Buffers, ReduceScatter):
    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: dist.ReduceOp | dist.ReduceOp.RedOpType,
        async_op: bool = False,
    ) -> dist.Work | None:
        return self._wire.call(
            lambda: dist.reduce_scatter_single(
                output_tensor, input_tensor, op=op, group=group, async_op=async_op
            ),
            output_tensor,
        )
