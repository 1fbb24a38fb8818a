"""The `disk` channel: directories on a volume that trainer and rollout share.

    <weights_root>/<run id>/v000007-<lease id>/
        model.safetensors  config.json  tokenizer files  parity.json

A directory appears by rename, complete and synced. float32 weights are the checkpoint's own file,
hard-linked where both lie on one volume.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from safetensors.torch import load_file

from ..checkpoint import PARITY_FILE, Checkpoint, directory_name, version_of
from ..config import LoraConfig
from ..durable import new_directory, remove_directory, remove_leftovers
from ..errors import CheckpointError
from ..lora import merged, write_adapter
from ..weight_files import WEIGHTS_FILE, copy_side_files, write_weights


class DiskChannel:
    """Publishes the versions of one run below a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        model_dir: Path,
        dtype: torch.dtype,
        keep_versions: int,
        lora: LoraConfig | None = None,
    ) -> None:
        """
        Args:
            folder: the run's folder below the shared root.
            model_dir: where config and tokenizer come from.
            dtype: type of the published weights.
            keep_versions: directories kept: the run's staleness bound plus 2.
            lora: of checkpoints that hold an adapter: how they are published.
        """
        self.folder = folder.resolve()
        self._model_dir = model_dir
        self.dtype = dtype
        self._keep_versions = keep_versions
        self._lora = lora if lora is not None and lora.rank else None

    def open(self) -> None:
        """Make the folder and clear what a killed trainer left half written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)

    def uri(self, policy_version: int, lease_id: str) -> str:
        """The absolute path of the version's directory."""
        return str(self.folder / directory_name(policy_version, lease_id))

    def publish(self, checkpoint: Checkpoint) -> None:
        """Write the directory; nothing to do if it is there, because names are never reused."""
        target = path_of(checkpoint.state.weights_uri)
        if target.is_dir():
            return
        with new_directory(target) as temporary:
            self._place(checkpoint.path / WEIGHTS_FILE, temporary)
            shutil.copyfile(checkpoint.path / PARITY_FILE, temporary / PARITY_FILE)

    def withdraw(self, checkpoint: Checkpoint) -> None:
        """Remove the directory of a version that was never announced."""
        remove_directory(path_of(checkpoint.state.weights_uri))

    def prune(self, *, announced_version: int, keep: Collection[str | None] = ()) -> None:
        """Keep the newest `keep_versions` versions up to the announced one, what is newer, and the
        URIs in `keep`: weights of pinned curriculum checkpoints."""
        for path in self.folder.glob("v*"):
            version = version_of(path)
            is_old = version is not None and version <= announced_version - self._keep_versions
            if is_old and str(path) not in keep:
                remove_directory(path)

    def _place(self, weights: Path, target: Path) -> None:
        lora, model_dir = self._lora, self._model_dir
        if lora is not None and lora.publish == "adapter":
            return write_adapter(weights, target, lora=lora, model_dir=model_dir)
        if lora is not None:
            whole = merged(weights, lora=lora, model_dir=model_dir, dtype=self.dtype)
            write_weights(whole, target / WEIGHTS_FILE)
        else:
            self._place_weights(weights, target / WEIGHTS_FILE)
        copy_side_files(model_dir, target, dtype=str(self.dtype).removeprefix("torch."))

    def _place_weights(self, source: Path, target: Path) -> None:
        if self.dtype != torch.float32:
            tensors = {
                name: value.to(self.dtype) if value.is_floating_point() else value
                for name, value in load_file(source).items()
            }
            write_weights(tensors, target)
            return
        try:
            os.link(source, target)
        except OSError:  # another volume, or one without links
            shutil.copyfile(source, target)


def below(root: Path, weights_uri: str) -> Path:
    """The directory of a URI that somebody else announced, links followed.

    Raises:
        CheckpointError: it does not lie strictly below `root`.
    """
    if weights_uri.startswith("file:") and urlsplit(weights_uri).netloc not in ("", "localhost"):
        raise CheckpointError(f"{weights_uri} lies on another machine")
    resolved, whole = (root / path_of(weights_uri)).resolve(), root.resolve()
    if whole not in resolved.parents:
        raise CheckpointError(f"{resolved} does not lie below {whole} (ETUDE_WEIGHTS_ROOT)")
    return resolved


def path_of(weights_uri: str) -> Path:
    """The directory of a URI: a plain path, or `file:///...`."""
    if weights_uri.startswith("file:"):
        return Path(unquote(urlsplit(weights_uri).path))
    return Path(weights_uri)
