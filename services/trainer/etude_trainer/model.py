"""The policy: a causal language model from a directory, computed for its trained tokens only.

Weights are float32 ("master weights"); passes may run under bfloat16 autocast. The output layer,
as wide as the vocabulary, runs only where a token is trained, in chunks (`head.py`). Read by
`stages/learn.py`; `weight_files.py` reads and writes the weights, `checks.py` proves at load time
that the shortcuts taken here hold for the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from . import attention
from .batching import MicroBatch
from .config import ModelConfig
from .errors import ModelError
from .head import HeadOptions, linear_logprobs
from .throughput import ModelCost, model_cost

if TYPE_CHECKING:
    from .parallel.sharding import Shards


class Policy:
    """A model with its output layer split off; not thread-safe."""

    is_adapter = False
    """Whether `weights` are an adapter's, and the model's own are frozen (`lora.py`)."""

    def __init__(self, module: nn.Module, config: ModelConfig, device: torch.device) -> None:
        """Take over a `transformers` causal language model.

        Raises:
            ModelError: it has no separate decoder and output layer.
        """
        self.module = module
        self.device = device
        self.config = config
        self.shards: Shards | None = None
        """How it is split over many ranks; null where one process has it whole."""
        self._decoder = _part(module, "get_decoder")
        self._head = _part(module, "get_output_embeddings")
        weight = self._head.weight
        assert isinstance(weight, Tensor)
        self.vocab_size = int(weight.shape[0])
        table = _part(module, "get_input_embeddings")
        self.is_tied = table.weight is weight
        """Whether the output layer is the embedding table."""
        self.table_name = _name_of(module, table) + ".weight"
        """Name of the embedding table in files."""
        self.head_name = _name_of(module, self._head) + ".weight"
        """Name of the output layer's weight in files, also where it is tied."""

    @property
    def cost(self) -> ModelCost:
        """Multiply-adds of a forward pass, from the model's configuration and parameters."""
        shape = self.module.config.get_text_config()  # type: ignore[union-attr, operator]
        table = self.vocab_size * int(shape.hidden_size)
        layers = sum(p.numel() for p in self._decoder.parameters()) - table
        return model_cost(shape, layer_parameters=max(layers, 1), vocab_size=self.vocab_size)

    @property
    def pair_cost(self) -> float:
        """Cost of an attended pair over the cost of a token elsewhere, in multiply-adds."""
        cost = self.cost
        return cost.per_pair / cost.per_token

    @property
    def uses_lines(self) -> bool:
        """Whether the model was loaded to take micro-batches as lines (`attention.py`)."""
        return getattr(self.module.config, "_attn_implementation", None) == attention.NAME

    def use_rows(self) -> None:
        """Take micro-batches as padded rows from now on."""
        self.module.set_attn_implementation("sdpa")  # type: ignore[operator]

    def weights(self) -> dict[str, Tensor]:
        """What is trained, kept in checkpoints and put back, by name; live tensors."""
        return dict(self.module.state_dict())

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimizer trains; a tied table once."""
        return self.module.parameters()

    def as_published(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Inside it the module computes with its weights as they are published."""
        return rounded(self.parameters(), dtype)

    def token_logprobs(
        self, micro: MicroBatch, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probability of each of the n trained tokens, and the entropy where it was sampled.

        Both float32 [n], in nats, of the distribution at the configured temperature, on the
        model's device. Gradients flow unless switched off outside. A collective call where the
        policy is split; each rank has a micro-batch of its own.

        Args:
            micro: on the model's device.
            entropy: whether it is needed; it comes anyway where it costs nothing.
        """
        if self.shards is None:
            return self._token_logprobs(micro, entropy)
        return self.shards.gathered(lambda: self._token_logprobs(micro, entropy))

    def _token_logprobs(self, micro: MicroBatch, entropy: bool) -> tuple[Tensor, Tensor | None]:
        hidden_nH = self._hidden(micro)
        chunk = max(1, self.config.logits_elements // self.vocab_size)
        if self._head_is_plain():
            return self._fused(hidden_nH, micro.target_n, chunk)
        logprobs: list[Tensor] = []
        entropies: list[Tensor] = []
        recompute = torch.is_grad_enabled() and len(hidden_nH) > chunk
        pieces = zip(hidden_nH.split(chunk), micro.target_n.split(chunk), strict=True)
        for hidden_cH, target_c in pieces:
            if recompute:
                lp_c, entropy_c = checkpoint(
                    self._score, hidden_cH, target_c, entropy, use_reentrant=False
                )
            else:
                lp_c, entropy_c = self._score(hidden_cH, target_c, entropy)
            logprobs.append(lp_c)
            entropies.append(entropy_c)
        return torch.cat(logprobs), torch.cat(entropies) if entropy else None

    def _head_is_plain(self) -> bool:
        """Whether the output layer is a linear map and nothing that acts when it is called."""
        head = self._head
        hooks = (head._forward_hooks, head._forward_pre_hooks, head._backward_hooks)
        is_linear = type(head) is nn.Linear and head.bias is None
        return is_linear and not any(hooks) and type(head.weight) is nn.Parameter

    def _fused(self, hidden_nH: Tensor, target_n: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """`head.py` on the output layer's own weights."""
        head = self._head
        assert isinstance(head, nn.Linear)
        in_bfloat16 = self.config.autocast == "bfloat16" and not self.config.head_float32
        options = HeadOptions(
            temperature=self.config.temperature,
            chunk_tokens=chunk,
            dtype=torch.bfloat16 if in_bfloat16 else torch.float32,
        )
        with self._autocast(False):
            return linear_logprobs(hidden_nH, head.weight, target_n, options)

    def _hidden(self, micro: MicroBatch) -> Tensor:
        """Last hidden states [n, H] at the positions that predict a trained token."""
        mask = micro.mask_B1LL if micro.trees_2L is None else attention.line_mask(micro.trees_2L)
        with self._autocast(self.config.autocast == "bfloat16"):
            states_BLH: Tensor = self._decoder(
                input_ids=micro.ids_BL,
                position_ids=micro.positions_BL,
                attention_mask=mask,
                use_cache=False,
            ).last_hidden_state
        return states_BLH.flatten(0, 1).index_select(0, micro.source_n)

    def _score(self, hidden_cH: Tensor, target_c: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies [c]; the entropies are empty unless asked for."""
        in_bfloat16 = self.config.autocast == "bfloat16" and not self.config.head_float32
        with self._autocast(in_bfloat16):
            hidden_cH = hidden_cH if in_bfloat16 else hidden_cH.float()
            logits_cV = self._head(hidden_cH).float()
        if self.config.temperature != 1.0:
            logits_cV = logits_cV / self.config.temperature
        if not entropy:
            lp_c = -functional.cross_entropy(logits_cV, target_c, reduction="none")
            return lp_c, lp_c.new_zeros(0)
        lp_cV = logits_cV.log_softmax(dim=-1)
        lp_c = lp_cV.gather(1, target_c[:, None])[:, 0]
        return lp_c, -(lp_cV.exp() * lp_cV).sum(dim=-1)

    def _autocast(self, enabled: bool) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def rounded(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> Iterator[None]:
    """Parameters rounded to `dtype` inside the block, and as they were after it."""
    if dtype == torch.float32:
        yield
        return
    changed = list(parameters)
    kept = [parameter.detach().clone() for parameter in changed]
    with torch.no_grad():
        for parameter in changed:
            parameter.copy_(parameter.to(dtype))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(changed, kept, strict=True):
                parameter.copy_(value)


def load_policy(directory: Path, config: ModelConfig, device: torch.device) -> Policy:
    """The causal language model in `directory` (config and safetensors), in float32.

    Dropout is switched off: the log-probabilities of a step must be those of one model.

    Raises:
        ModelError: no such directory, no weights in safetensors, or not a causal language model.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()

    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory} is not a model directory: it has no config.json")
    is_auto = config.attention == "auto"
    wants_lines = attention.prefers_lines(device) if is_auto else config.attention == "lines"
    try:
        module = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
        )
        if wants_lines:
            _install_lines(module, required=not is_auto)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{directory}: {error}") from error
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0
    if config.gradient_checkpointing:
        # Named so from 5.2x on; the older name warns there.
        enable = getattr(module, "activation_checkpointing_enable", None)
        (enable or module.gradient_checkpointing_enable)({"use_reentrant": False})
        module.train()
    else:
        module.eval()
    return Policy(module.to(device), config, device)


def _install_lines(module: nn.Module, *, required: bool) -> None:
    """Let a model take lines; one whose attention cannot be replaced keeps its rows.

    Raises:
        ValueError: it cannot, and lines are required.
    """
    try:
        module.set_attn_implementation(attention.install())  # type: ignore[operator]
    except ValueError:
        if required:
            raise


def pick_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA where there is one.

    Raises:
        ModelError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {name!r} cannot be used: {error}") from error
    return device


def _part(module: nn.Module, getter: str) -> nn.Module:
    get = getattr(module, getter, None)
    part = get() if callable(get) else None
    if not isinstance(part, nn.Module):
        raise ModelError(f"{type(module).__name__} has no {getter}(): not a causal language model")
    return part


def _name_of(module: nn.Module, part: nn.Module) -> str:
    for name, found in module.named_modules():
        if found is part:
            return str(name)
    raise ModelError(f"{type(module).__name__} does not hold its own output layer")
