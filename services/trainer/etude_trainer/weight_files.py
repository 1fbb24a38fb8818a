"""Model weights as safetensors: the publishable form of a policy, out to disk and back in.

The publishable form always names the output layer. A tied table is written twice and the config
says `tie_word_embeddings: false`: vLLM on a CPU keeps a packed copy of a tied output layer, which
a reload of the table alone would leave stale (platform.md, section 4).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import CheckpointError
from .model import Policy
from .parallel.sharding import like, whole

WEIGHTS_FILE: Final = "model.safetensors"
_WEIGHT_SUFFIXES: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack")
_MAX_SIDE_FILE_BYTES: Final = 128 << 20


def publishable(policy: Policy, *, keeps: bool = True, copies: bool = False) -> dict[str, Tensor]:
    """Every weight by name, float32 on the host, the output layer always among them.

    Of a sharded policy one tensor at a time is put together, by all ranks.

    Args:
        policy: whole or sharded.
        keeps: False: take part, and return nothing.
        copies: tensors that the next step leaves alone; else they may be the policy's own.
    """
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in policy.weights().items():
        value = value.detach()
        full = whole(value)
        if not keeps:
            continue
        tensor = full.to("cpu", torch.float32 if full.is_floating_point() else None).contiguous()
        is_own = tensor.data_ptr() == full.data_ptr() and full is value
        must_copy = tensor.data_ptr() in seen or (copies and is_own)
        tensors[name] = tensor.clone() if must_copy else tensor
        seen.add(tensor.data_ptr())
    if keeps and not policy.is_adapter and policy.head_name not in tensors:
        tensors[policy.head_name] = tensors[policy.table_name].clone()
    return tensors


def write_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """One safetensors file, in the form that `transformers` and vLLM expect."""
    save_file(tensors, path, metadata={"format": "pt"})


def read_weights(directory: Path) -> dict[str, Tensor]:
    """Every tensor of the directory's safetensors files.

    Raises:
        CheckpointError: there is none, or one is broken.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{directory} holds no *.safetensors")
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors.update(load_file(path))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: {error}") from error
    return tensors


def load_into(policy: Policy, directory: Path) -> None:
    """Put the weights of `directory` into the model, in place; all or nothing.

    Raises:
        CheckpointError: a name or shape that is not the model's, or an output layer that differs
            from the table to which this model ties it.
    """
    tensors = read_weights(directory)
    target = policy.weights()
    is_tied = policy.is_tied and not policy.is_adapter
    optional = {policy.head_name} if is_tied else set()
    missing = sorted(set(target) - set(tensors) - optional)
    unknown = sorted(set(tensors) - set(target) - optional)
    if missing or unknown:
        raise CheckpointError(
            f"{directory} is another model: missing {missing[:3]}, unknown {unknown[:3]}"
        )
    for name, tensor in tensors.items():
        if name in target and tensor.shape != target[name].shape:
            raise CheckpointError(
                f"{directory}: {name} is {list(tensor.shape)}, want {list(target[name].shape)}"
            )
    head = tensors.pop(policy.head_name, None) if is_tied else None
    if head is not None and not torch.equal(tensors[policy.table_name], head):
        raise CheckpointError(
            f"{directory}: {policy.head_name} differs from the embeddings it is tied to"
        )
    put_into(policy, tensors)


def put_into(policy: Policy, tensors: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into a policy, or into this rank's part of it."""
    target = policy.weights()
    with torch.no_grad():
        for name, tensor in tensors.items():
            target[name].copy_(like(tensor, target[name]))


def copy_side_files(model_dir: Path, target: Path, *, dtype: str) -> None:
    """Config and tokenizer files beside the weights; the config untied and of the given type."""
    for path in sorted(model_dir.iterdir()):
        is_weights = path.name.endswith((*_WEIGHT_SUFFIXES, ".index.json"))
        if path.is_file() and not is_weights and path.stat().st_size <= _MAX_SIDE_FILE_BYTES:
            shutil.copyfile(path, target / path.name)
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    for table in (config, config.get("text_config")):
        if isinstance(table, dict):
            table["tie_word_embeddings"] = False
            table.pop("torch_dtype", None)
            table["dtype"] = dtype
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (target / "config.json").write_text(text, encoding="utf-8")
