"""Model checkpoints: everything that a trainer needs to go on after a kill, one directory a step.

    <trainer_dir>/<run id>/checkpoints/v000007-<lease id>/
        model.safetensors   weights in publishable form (`weight_files.py`)
        training.pt         optimizer state and random states
        shards/             instead of the optimizer in `training.pt`, where several ranks train a
                            whole model: it and its optimizer, a file a rank (`parallel/shards.py`)
        parity.json         the probe that is published with the weights
        state.json          which batch made it, and the ack that is due (`CheckpointState`)
        acked.json          the receipt, with the id of the curriculum checkpoint that was taken
                            with the version; its absence marks a checkpoint whose ack is pending

Written before the ack, pruned after it. docs/adr/0010-trainer-ack.md says why.
"""

from __future__ import annotations

import re
import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor
from torch.utils._pytree import tree_map_only

from etude_proto.v1 import AckReceipt

from .algorithms.resets import ResetState
from .durable import (
    begin_directory,
    finish_directory,
    remove_directory,
    remove_leftovers,
    write_file,
)
from .errors import CheckpointError
from .model import Policy
from .parallel.crew import ALONE, Crew
from .parallel.sharding import place_optimizer, whole
from .parallel.shards import DAMAGE, begin_shards, load_shards
from .parity import Parity
from .weight_files import WEIGHTS_FILE, load_into, publishable, write_weights

PARITY_FILE: Final = "parity.json"
SHARDS: Final = "shards"
_STATE_FILE, _TRAINING_FILE, _RECEIPT_FILE = "state.json", "training.pt", "acked.json"
_NAME = re.compile(r"v(\d{6,})-(\w+)")


class CheckpointState(BaseModel):
    """What a checkpoint knows of the step that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy_version: int
    """The version that the step produced."""
    lease_id: str
    """The training batch that it was trained on."""
    fence: int
    weights_uri: str
    """Where the weights are, or will be, published."""
    metrics: dict[str, float]
    """Scalars of the step, sent with the ack."""
    run_id: str | None = None
    """The run; null in checkpoints of before it was written here."""
    takes_curriculum: bool = False
    """Whether the ack asks for a curriculum checkpoint of this version."""
    resets: ResetState = ResetState()
    """What the detector of reference resets has seen, this step included."""
    reference: str | None = None
    """Directory name of the checkpoint whose weights the reference has; null: the model's own."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    state: CheckpointState

    @property
    def is_acked(self) -> bool:
        """Whether the sampler is known to have taken the ack."""
        return (self.path / _RECEIPT_FILE).is_file()

    def mark_acked(self, receipt: AckReceipt | None) -> None:
        """Remember the receipt; null where only the run shows that the ack was taken."""
        text = "null" if receipt is None else receipt.model_dump_json()
        write_file(self.path / _RECEIPT_FILE, text)

    def load(self, policy: Policy, optimizer: torch.optim.Optimizer, *, crew: Crew = ALONE) -> None:
        """Put policy, optimizer and random states back, bit for bit; all ranks of a crew do.

        Any number of ranks reads what any number has written.

        Raises:
            CheckpointError: damaged, or of another model.
        """
        path = self.path / _TRAINING_FILE
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if "optimizer" in saved:
                load_into(policy, self.path)
                optimizer.load_state_dict(place_optimizer(saved["optimizer"], policy.parameters()))
            else:
                load_shards(policy, optimizer, self.path / SHARDS, crew)
            torch.set_rng_state(saved["rng"]["cpu"])
            if 0 < len(saved["rng"]["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(saved["rng"]["cuda"])
        except DAMAGE as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path}: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, slots=True)
class Captured:
    """A learner's state at one moment, on the host: what a checkpoint is written from."""

    weights: dict[str, Tensor]
    """Publishable weights; empty on all ranks but 0."""
    training: dict[str, object]
    """What goes into `training.pt`."""
    shards: Future[object] | None = None
    """Done when every rank has written its part; None where there are no parts."""


def capture(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    *,
    crew: Crew = ALONE,
    shards: Path | None = None,
    copies: bool = True,
) -> Captured:
    """The state of now; a collective call.

    Args:
        policy: and its optimizer; may be trained on at once.
        optimizer: its moments.
        crew: who takes part.
        shards: where its parts are written; None for one process, and for an adapter, which is
            small: rank 0 has all of it.
        copies: False: the tensors are the learner's own, to be written before it goes on.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    training: dict[str, object] = {"rng": {"cpu": torch.get_rng_state(), "cuda": cuda}}
    weights = publishable(policy, keeps=crew.leads, copies=copies)
    if shards is not None:
        writing = begin_shards(policy, optimizer, shards, crew)
        return Captured(weights, training, writing)
    state = optimizer.state_dict()
    if copies or not crew.is_alone:
        state = tree_map_only(Tensor, partial(_copied, keeps=crew.leads), state)
    training["optimizer"] = state if crew.leads else {}
    return Captured(weights, training)


def _copied(tensor: Tensor, *, keeps: bool) -> Tensor | None:
    full = whole(tensor.detach())
    return full.to("cpu", copy=True) if keeps else None


def directory_name(policy_version: int, lease_id: str) -> str:
    """Name of a version's directory, of checkpoints and of weights alike."""
    return f"v{policy_version:06d}-{lease_id}"


def version_of(path: Path) -> int | None:
    """The policy version in a directory's name, or null if it is none of ours."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match and path.is_dir() else None


@dataclass(frozen=True, slots=True)
class Target:
    """A checkpoint that is being written: a temporary folder until it is complete."""

    path: Path
    state: CheckpointState
    folder: Path

    @property
    def shards(self) -> Path:
        """Where the ranks write their parts."""
        return self.folder / SHARDS

    def write(self, captured: Captured, parity: Parity) -> Checkpoint:
        """Write the files, wait for the ranks' parts, put the folder in its place."""
        write_weights(captured.weights, self.folder / WEIGHTS_FILE)
        torch.save(captured.training, self.folder / _TRAINING_FILE)
        (self.folder / PARITY_FILE).write_text(parity.to_json(), encoding="utf-8")
        (self.folder / _STATE_FILE).write_text(self.state.model_dump_json(), encoding="utf-8")
        if captured.shards is not None:
            captured.shards.result()
        finish_directory(self.folder, self.path)
        return Checkpoint(self.path, self.state)

    def abandon(self) -> None:
        """Clear away what was written, unless it is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


class CheckpointStore:
    """The checkpoints of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> None:
        """Make the folder and clear what a killed trainer left half written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)

    def save(
        self,
        state: CheckpointState,
        *,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        parity: Parity,
    ) -> Checkpoint:
        """Write a checkpoint of one process; it exists only when it is complete and on disk."""
        target = self.begin(state)
        try:
            return target.write(capture(policy, optimizer, copies=False), parity)
        finally:
            target.abandon()

    def begin(self, state: CheckpointState) -> Target:
        """A checkpoint to be written; to be abandoned if it is not."""
        path = self.folder / directory_name(state.policy_version, state.lease_id)
        return Target(path, state, begin_directory(path))

    def all(self) -> list[Checkpoint]:
        """Every checkpoint, oldest version first.

        Raises:
            CheckpointError: one whose state cannot be read.
        """
        found = [path for path in self.folder.glob("v*") if version_of(path) is not None]
        checkpoints: list[Checkpoint] = []
        for path in found:
            try:
                text = (path / _STATE_FILE).read_text(encoding="utf-8")
                checkpoints.append(Checkpoint(path, CheckpointState.model_validate_json(text)))
            except (OSError, ValidationError) as error:
                raise CheckpointError(f"{path}: {error}") from error
        return sorted(checkpoints, key=lambda c: (c.state.policy_version, c.path.name))

    def pending(self) -> list[Checkpoint]:
        """Checkpoints without a receipt, oldest first: at most one unless receipts were lost."""
        return [checkpoint for checkpoint in self.all() if not checkpoint.is_acked]

    def find(self, policy_version: int, weights_uri: str | None) -> Checkpoint | None:
        """The checkpoint of an announced version."""
        for checkpoint in self.all():
            state = checkpoint.state
            if (state.policy_version, state.weights_uri) == (policy_version, weights_uri):
                return checkpoint
        return None

    def discard(self, checkpoint: Checkpoint) -> None:
        """Remove a checkpoint whose step never counted."""
        remove_directory(checkpoint.path)

    def prune(self, *, announced: Checkpoint, keep: int) -> None:
        """Keep the announced checkpoint, the `keep - 1` versions before it, and their references.

        Anything newer than the announced one belongs to a future that was discarded.
        """
        newest = announced.state.policy_version
        found = self.all()
        kept = {
            one.path.name: one.state.reference
            for one in found
            if one.path == announced.path or newest - keep < one.state.policy_version < newest
        }
        for checkpoint in found:
            if checkpoint.path.name not in {*kept, *kept.values()}:
                remove_directory(checkpoint.path)
