"""LoRA: a frozen model with a small trained adapter (peft), its reference and its files.

The adapter is injected into the model's own layers, so that everything else is computed as without
it. Its weights are the policy's (`Policy.weights`): a checkpoint holds them and their moments, not
the model. Published are either the merged weights, made from the model's files and the adapter's
without the model in memory, or the adapter's directory as peft saves it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from .batching import MicroBatch
from .config import LoraConfig
from .errors import CheckpointError, ModelError
from .model import Policy, rounded
from .weight_files import put_into, read_weights, write_weights

ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"
_PREFIX: Final = "base_model.model."
"""Of every name in peft's files."""
_NAME: Final = "default"
"""Of the adapter in the model."""


class LoraPolicy(Policy):
    """A policy of which only the adapter is trained and kept."""

    is_adapter = True

    def __init__(self, policy: Policy, lora: LoraConfig) -> None:
        """Inject the adapter; the policy given is used up.

        Raises:
            ModelError: a target that the model does not have.
        """
        _inject(policy.module, lora)
        super().__init__(policy.module, policy.config, policy.device)
        self.lora = lora
        self._first = {name: value.detach().clone() for name, value in self.weights().items()}

    def weights(self) -> dict[str, Tensor]:
        """The adapter's weights, by their names in peft's files."""
        return adapter_weights(self.module)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimizer trains: the adapter."""
        return (p for p in self.module.parameters() if p.requires_grad)

    def begin_anew(self) -> None:
        """The adapter as it was before the first step: it changes nothing."""
        put_into(self, self._first)

    @contextmanager
    def as_published(self, dtype: torch.dtype) -> Iterator[None]:
        """As `Policy.as_published`: merged and rounded to `dtype`, or as an adapter in float32.

        An adapter travels in float32 over the engine's own model, which is taken as it is here.
        """
        is_merged = self.lora.publish == "merged"
        own = dtype if is_merged else torch.float32
        others = [p for name, p in self.module.named_parameters() if not _is_adapted(name)]
        layers = [part for part in self.module.modules() if hasattr(part, "lora_B")]
        with rounded(others, own):
            for layer in layers:
                layer.forward = partial(_merged_forward, layer, self.lora.scale, own)
            try:
                yield
            finally:
                for layer in layers:
                    del layer.forward


def _is_adapted(name: str) -> bool:
    """Whether a parameter is an adapter's, or the weight of a layer that has one."""
    return ".lora_" in name or name.endswith(".base_layer.weight")


def _merged_forward(layer: nn.Module, scale: float, dtype: torch.dtype, x: Tensor) -> Tensor:
    """What a layer computes once its adapter is merged; inside its own pass, where it is whole."""
    low, high, base = (
        layer.get_parameter(f"{part}.weight")
        for part in (f"lora_A.{_NAME}", f"lora_B.{_NAME}", "base_layer")
    )
    weight = (base.float() + scale * (high @ low)).to(dtype).float()
    bias = dict(layer.get_submodule("base_layer").named_parameters()).get("bias")
    return nn.functional.linear(x.float(), weight, bias)


class LoraReference(Policy):
    """The same model under another adapter: at first none. Holds no second copy of the model."""

    is_adapter = True

    def __init__(self, policy: LoraPolicy) -> None:
        super().__init__(policy.module, policy.config, policy.device)
        self.shards = policy.shards
        self._frozen = {name: torch.zeros_like(value) for name, value in policy.weights().items()}

    def weights(self) -> dict[str, Tensor]:
        """The reference's adapter."""
        return self._frozen

    def begin_anew(self) -> None:
        """No adapter: the model's own weights."""
        for value in self._frozen.values():
            value.zero_()

    def token_logprobs(
        self, micro: MicroBatch, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """As `Policy.token_logprobs`, under the reference's adapter."""
        with _exchanged(adapter_weights(self.module), self._frozen):
            return super().token_logprobs(micro, entropy=entropy)


@contextmanager
def _exchanged(live: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[None]:
    """The values of two sets of tensors, exchanged for a while; no gradient may flow."""

    def exchange() -> None:
        with torch.no_grad():
            for name, value in live.items():
                kept = value.detach().clone()
                value.copy_(other[name])
                other[name].copy_(kept)

    exchange()
    try:
        yield
    finally:
        exchange()


def _inject(module: nn.Module, lora: LoraConfig) -> None:
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    for target in lora.targets:
        if not any(name.split(".")[-1] == target for name in names):
            raise ModelError(f"lora.targets: {type(module).__name__} has no layer {target!r}")
    config = PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():  # the same adapter whenever it is begun
        torch.manual_seed(0)
        inject_adapter_in_model(config, module, adapter_name=_NAME)
    for name, parameter in module.named_parameters():
        is_adapter = ".lora_" in name
        parameter.requires_grad_(is_adapter)
        if name.endswith(".base_layer.weight") and lora.base == "bfloat16":
            parameter.data = parameter.data.bfloat16()
        elif is_adapter:
            parameter.data = parameter.data.float()


def adapter_weights(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model's adapter by their names in peft's files."""
    return {
        _PREFIX + name.replace(f".{_NAME}.weight", ".weight"): parameter
        for name, parameter in module.named_parameters()
        if f".lora_A.{_NAME}." in name or f".lora_B.{_NAME}." in name
    }


def write_adapter(weights: Path, target: Path, *, lora: LoraConfig, model_dir: Path) -> None:
    """A directory that peft and vLLM load: the adapter of a checkpoint's weights file."""
    write_weights(read_weights(weights.parent), target / ADAPTER_WEIGHTS)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model_dir),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(lora.targets),
        "bias": "none",
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (target / ADAPTER_CONFIG).write_text(text, encoding="utf-8")


def merged(
    weights: Path, *, lora: LoraConfig, model_dir: Path, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Whole weights: the model's files plus the adapter, added in float32, then rounded.

    Raises:
        CheckpointError: the adapter is of another model.
    """
    tensors = read_weights(model_dir)
    adapter = read_weights(weights.parent)
    for name, high in adapter.items():
        if not name.endswith(".lora_B.weight"):
            continue
        layer = name.removeprefix(_PREFIX).removesuffix(".lora_B.weight")
        base = tensors.get(f"{layer}.weight")
        low = adapter.get(f"{_PREFIX}{layer}.lora_A.weight")
        if base is None or low is None or base.shape != (len(high), low.shape[1]):
            raise CheckpointError(f"{weights}: {name} does not fit {model_dir}")
        if lora.base == "bfloat16":
            base = base.bfloat16()
        tensors[f"{layer}.weight"] = base.float() + lora.scale * (high @ low)
    if not any(name.endswith("lm_head.weight") for name in tensors):
        (table,) = [name for name in tensors if name.endswith("embed_tokens.weight")] or [""]
        if not table:
            raise CheckpointError(f"{model_dir}: neither lm_head nor embed_tokens to tie it to")
        tensors["lm_head.weight"] = tensors[table].clone()
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in tensors.items()
    }
