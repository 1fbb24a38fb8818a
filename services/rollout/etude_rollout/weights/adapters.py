"""LoRA adapters as published directories (PEFT's format), checked before an engine is told of them.

    v000012-<batch>/  adapter_model.safetensors  adapter_config.json  parity.json

An adapter is small and travels by `disk` whatever the channel. Used by `engines/vllm_weights.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..engines.base import WeightsRefused
from .files import ADAPTER_FILE, read_shapes

_PREFIX = "base_model.model."
_PARTS = (".lora_A.weight", ".lora_B.weight")


def adaptable(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Weights that an adapter may change: the matrices of a model's layers.

    Not the output layer: vLLM 0.32 computes log-probabilities of a prompt through it, and with an
    adapter there that fails and ends the engine when other requests are under way. Not a router.
    """
    matrices = [name for name, shape in shapes.items() if len(shape) == 2 and ".layers." in name]
    return sorted(name for name in matrices if not name.endswith(".gate.weight"))


def adapter_name(directory: Path) -> str:
    """What an engine calls a version's adapter: never the same for two, so that nothing cached
    under an older one is taken for its own."""
    return f"policy-{directory.name}"


def check_adapter(directory: Path, *, model_dir: Path | None, max_rank: int | None) -> None:
    """Compare an adapter with the model that is served.

    Args:
        model_dir: the served checkpoint; null where it cannot be read here, then names and shapes
            are left to the engine.
        max_rank: of the engine; null where it is not known.

    Raises:
        WeightsRefused: not an adapter, of too high a rank, or another model's.
    """
    try:
        config = json.loads((directory / ADAPTER_FILE).read_text(encoding="utf-8"))
        rank = int(config["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsRefused(f"{directory / ADAPTER_FILE}: {error!r}") from error
    if max_rank is not None and rank > max_rank:
        raise WeightsRefused(f"{directory} has rank {rank}, and the engine takes {max_rank}")
    shapes = read_shapes(directory)
    if not shapes:
        raise WeightsRefused(f"{directory} holds an adapter of nothing")
    served = None if model_dir is None else read_shapes(model_dir)
    may_change = set(adaptable(served or {}))
    for name, shape in shapes.items():
        part = next((part for part in _PARTS if name.endswith(part)), None)
        if part is None or not name.startswith(_PREFIX):
            raise WeightsRefused(f"{directory}: {name} is not a part of a LoRA adapter")
        if served is None:
            continue
        weight = name.removeprefix(_PREFIX).removesuffix(part) + ".weight"
        base = served.get(weight)
        if base is None or weight not in may_change:
            raise WeightsRefused(f"{directory}: {name} adapts no layer of the served model")
        want = (rank, base[-1]) if part == _PARTS[0] else (base[0], rank)
        if shape != want:
            raise WeightsRefused(f"{directory}: {name} has shape {shape}, want {want}")
