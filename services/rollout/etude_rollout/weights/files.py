"""Reading the safetensors files of a published directory.

Used by the engines and by the vLLM plug-in; knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ..engines.base import WeightsRefused

if TYPE_CHECKING:
    import torch


ADAPTER_FILE = "adapter_config.json"
"""Its presence says that a directory holds an adapter (PEFT's format), not a whole model."""


def is_adapter(directory: Path) -> bool:
    """Whether a published directory holds an adapter."""
    return (directory / ADAPTER_FILE).is_file()


def weight_files(directory: Path) -> list[Path]:
    """The directory's `*.safetensors`, sorted.

    Raises:
        WeightsRefused: there is none.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise WeightsRefused(f"{directory} holds no *.safetensors")
    return files


def read_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, from the files' headers alone.

    Raises:
        WeightsRefused: no files, a broken one, or a name that occurs twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="numpy") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    if name in shapes:
                        raise WeightsRefused(f"{directory}: {name} occurs twice")
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise WeightsRefused(f"{path}: {error}") from error
    return shapes


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Every tensor by name, on the host.

    Raises:
        WeightsRefused: no files, or a broken one.
    """
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for path in weight_files(directory):
        try:
            tensors.update(load_file(path))
        except (SafetensorError, OSError) as error:
            raise WeightsRefused(f"{path}: {error}") from error
    return tensors
