"""Staging of published weights: received on the host and checked whole, before a model is touched.

The part of vLLM's weight transfer that needs no vLLM. `vllm_plugin.py` drives it. The stage is
filled from a published directory or from a trainer's process group (`receiving.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from etude_proto.v1.weights import Transfer

from ..engines.base import WeightsRefused
from .disk import DiskChannel, WeightsMissing
from .files import read_shapes, read_tensors
from .receiving import receive, shapes_of

if TYPE_CHECKING:
    import torch

BACKEND = "etude"
"""Name of our channels in vLLM's `--weight-transfer-config`: one server takes weights from all."""

NOTHING_STAGED = "nothing is staged"
"""What is said when an update is to be finished that another one has replaced."""

Shapes = Mapping[str, tuple[int, ...]]


def tied_name(model_dir: Path) -> str | None:
    """The output layer's name if it is tied to the embeddings: it may be stored or left out."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return "lm_head.weight" if config.get("tie_word_embeddings") else None


def check_shapes(given: Shapes, *, served: Shapes, tied: str | None) -> None:
    """Compare a published checkpoint with the one that is served.

    Raises:
        WeightsRefused: a name is missing or unknown, or a shape differs.
    """
    optional = set() if tied is None else {tied}
    missing = sorted(served.keys() - given.keys() - optional)
    unknown = sorted(given.keys() - served.keys() - optional)
    if missing or unknown:
        raise WeightsRefused(f"missing {missing[:3]}, unknown {unknown[:3]}")
    for name in sorted(given.keys() & served.keys()):
        if given[name] != served[name]:
            raise WeightsRefused(f"{name} has shape {given[name]}, want {served[name]}")


class Stage:
    """The weights of one version, held until they are taken or dropped."""

    def __init__(self, root: Path, model_dir: Path) -> None:
        """
        Args:
            root: directories are read strictly below it.
            model_dir: the checkpoint that is served; says which names and shapes there must be.

        Raises:
            WeightsRefused: the served model is not a local directory of safetensors.
        """
        self._channel = DiskChannel(root)
        self._served = read_shapes(model_dir)
        self._tied = tied_name(model_dir)
        self._tensors: dict[str, torch.Tensor] = {}

    def drop(self) -> None:
        """Forget what was staged."""
        self._tensors = {}

    def receive(self, path: str) -> None:
        """Stage a directory; on any error nothing is staged.

        Raises:
            WeightsRefused: not below the root, not there, or not the served model's weights.
        """
        self.drop()
        try:
            directory = self._channel.resolve(path)
        except WeightsMissing as error:
            raise WeightsRefused(str(error)) from error
        check_shapes(read_shapes(directory), served=self._served, tied=self._tied)
        self._tensors = read_tensors(directory)

    def receive_transfer(self, transfer: Transfer, *, rank: int, device: torch.device) -> None:
        """Stage what a trainer sends; on any error nothing is staged.

        Names and shapes are compared before the group is joined: every process of the engine
        comes to the same answer, and none waits for another.

        Raises:
            WeightsRefused: not the served model's weights, or the transfer broke.
        """
        self.drop()
        check_shapes(shapes_of(transfer), served=self._served, tied=self._tied)
        self._tensors = receive(transfer, rank=rank, device=device)

    def take(self) -> list[tuple[str, torch.Tensor]]:
        """The staged weights by name; the stage is empty afterwards."""
        tensors, self._tensors = self._tensors, {}
        return list(tensors.items())
