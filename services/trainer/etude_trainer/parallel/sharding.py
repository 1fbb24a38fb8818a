"""Sharding: a policy's parameters split over the ranks by FSDP2, and whole tensors out and in.

Each decoder layer is gathered for its own pass and let go again; embeddings, last norm and output
layer are gathered around the whole pass, because the output layer runs in chunks outside any
module's forward. Gradients are summed, not averaged: `algorithms/aggregation.py` has already
divided by what the whole batch holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..batch import TokenSequence
from ..batching import build_micro_batch
from ..config.running import ParallelConfig
from ..errors import ConfigError, ModelError
from ..layout import Row
from ..model import Policy
from .crew import Crew
from .wire import Wire

T = TypeVar("T")

_COMPUTE: Final = "etude_compute"
"""Method of the root module that FSDP treats like its forward."""
_IDLE: Final = TokenSequence(
    np.zeros(2, dtype=np.int32), np.array([False, True]), np.zeros(2, dtype=np.float32)
)


class Shards:
    """How a policy is split: its passes are collective calls, in an order that all ranks share."""

    def __init__(self, module: nn.Module, config: ParallelConfig) -> None:
        """Of a module whose parts are sharded already, itself last."""
        assert isinstance(module, FSDPModule)
        self._module = module
        self.in_bfloat16 = config.gather == "bfloat16"
        """Whether the layers' weights travel, and therefore compute, in bfloat16."""
        self._wire = Wire()
        self._wire.install(module)
        self.can_make_up = config.replicas == 1
        """Whether a rank whose pass failed can make up for it."""
        setattr(module, _COMPUTE, MethodType(_compute, module))
        register_fsdp_forward_method(module, _COMPUTE)

    def gathered(self, work: Callable[[], T]) -> T:
        """Run a pass with the root's parameters whole; the layers gather their own."""
        compute: Callable[[Callable[[], T]], T] = getattr(self._module, _COMPUTE)
        found = compute(work)
        if not torch.is_grad_enabled():
            self.let_go()
        return found

    def let_go(self) -> None:
        """Give up the root's whole parameters, as a backward pass does; nobody waits for that."""
        self._module.reshard()

    def begin_pass(self) -> None:
        """Count this pass's calls from here."""
        self._wire.begin()

    def make_up(self, empty_pass: Callable[[], None]) -> None:
        """After a pass that failed on this rank alone: what the others still expect of it.

        Args:
            empty_pass: makes the same calls as any pass.
        """
        self._module.reset_iter_state()
        self._wire.num_left_out = self._wire.num_made
        empty_pass()
        assert self._wire.num_left_out == 0, "an empty pass makes the calls of any other"


def make_mesh(crew: Crew, config: ParallelConfig, device: torch.device) -> DeviceMesh:
    """One dimension of shards, or replicas of sharded models (HSDP).

    Raises:
        ConfigError: the ranks cannot be divided so.
    """
    if config.replicas == 1:
        return init_device_mesh(device.type, (crew.size,), mesh_dim_names=("shard",))
    if crew.size % config.replicas:
        raise ConfigError(
            f"parallel.replicas: {crew.size} ranks cannot be divided into {config.replicas}"
        )
    shape = (config.replicas, crew.size // config.replicas)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))


def shard(policy: Policy, mesh: DeviceMesh, config: ParallelConfig) -> None:
    """Split a policy that is whole on every rank, in place, frozen weights as well.

    Raises:
        ModelError: its decoder has no list of layers.
    """
    module = policy.module
    get_decoder = module.get_decoder
    layers = getattr(get_decoder(), "layers", None)  # type: ignore[operator]
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(f"{type(module).__name__} has no decoder layers to shard")
    if config.gather == "bfloat16":
        precision = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    else:
        precision = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    # The root stays float32: embeddings and output layer are precise where `model` says so.
    root_precision = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(module, mesh=mesh, mp_policy=root_precision)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo has no other
    policy.shards = Shards(module, config)
    device = torch.device(mesh.device_type)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    policy.device = device


def _compute(_module: nn.Module, work: Callable[[], T]) -> T:
    return work()


def idle_pass(policy: Policy) -> None:
    """A pass that changes nothing: one token, loss 0; backward too where gradients flow."""
    micro = build_micro_batch([Row((0,), 0, 2)], [_IDLE], [0, 1])
    lp_n, _ = policy.token_logprobs(micro.to(policy.device))
    if torch.is_grad_enabled():
        (0.0 * lp_n.sum()).backward()


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Clip by the norm of the whole gradient, over all ranks; the norm before clipping."""
    with_gradient = [p for p in parameters if p.grad is not None]
    gradients = [p.grad for p in with_gradient if p.grad is not None]
    norm = whole(get_total_norm(gradients))
    clip_grads_with_norm_(with_gradient, max_norm, norm)
    return float(norm)


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all shards of it put together (a collective call)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, target: Tensor) -> Tensor:
    """This rank's part of a whole tensor, laid out as `target`; no communication."""
    if not isinstance(target, DTensor):
        return tensor
    mesh, placements = target.device_mesh, target.placements
    tensor = tensor.to(mesh.device_type)
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)


def place_optimizer(
    saved: Mapping[str, object], parameters: Iterable[nn.Parameter]
) -> dict[str, object]:
    """An optimizer's state with whole tensors, as an optimizer of these parameters holds it."""
    states = saved["state"]
    assert isinstance(states, Mapping)
    placed = {}
    for number, parameter in enumerate(parameters):
        if number in states:
            placed[number] = {
                name: like(value, parameter)
                if isinstance(value, Tensor) and value.shape == parameter.shape
                else value
                for name, value in states[number].items()
            }
    return {**saved, "state": placed}
