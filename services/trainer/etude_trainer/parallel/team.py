"""The team: what all ranks of a trainer do together, one method each.

The leader's loop calls the methods; each sends an order first, which the others carry out by the
same code (`follow`). Whoever is alone just does it. Everything here is a collective call; what
only rank 0 does (sampler, journal, published files) is `loop.py` and `stages/`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch

from etude_proto.v1 import TrainingBatch

from ..batch import Group, decode_batch
from ..checkpoint import Captured, Checkpoint, CheckpointState, capture
from ..errors import ModelMismatch
from ..lora import LoraPolicy
from ..model import load_policy
from ..parity import Parity, measure
from ..profiling import Profiler
from ..references import become_policy, forget, remember
from ..stages.learn import Learner, learn, make_optimizer
from ..weight_files import load_into, put_into
from .crew import Crew, Order, Progress, StepAbandoned, naming_losses

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Team:
    """One rank's learner, moved in step with the others'."""

    learner: Learner
    profiler: Profiler | None = None
    _writing: Future[object] | None = field(default=None, repr=False)
    """This rank's shards of the newest checkpoint."""

    @property
    def crew(self) -> Crew:
        """The ranks."""
        return self.learner.crew

    def profile(self, folder: Path) -> None:
        """Watch the steps that the configuration names."""
        self.crew.send(Order("profile", str(folder)))
        self._profile(folder)

    def learn(
        self,
        manifest: TrainingBatch,
        bodies: Sequence[bytes],
        groups: Sequence[Group],
        progress: Progress,
    ) -> dict[str, float]:
        """Train on a batch; its `policy_version` is the version that it is trained at.

        Args:
            manifest: of the batch; the others decode it for themselves.
            bodies: the groups' bytes.
            groups: what they decode to.
            progress: see `stages.learn.Progress`; may raise to give the step up, on all ranks.
        """
        self.crew.send(Order("learn", manifest.model_dump_json(), tuple(bodies)))
        return self._learn(groups, manifest.policy_version, progress)

    def measure(
        self, token_ids: list[list[int]], *, policy_version: int, dtype: torch.dtype
    ) -> Parity:
        """The parity probe of the policy as it is now."""
        name = str(dtype).removeprefix("torch.")
        self.crew.send(Order("measure", json.dumps([token_ids, policy_version, name])))
        with naming_losses():
            return measure(
                self.learner.policy, token_ids, policy_version=policy_version, dtype=dtype
            )

    def capture(self, shards: Path | None = None, *, copies: bool = True) -> Captured:
        """Take the state that a checkpoint is written from.

        Args:
            shards: where the ranks write their parts; None where rank 0 writes it all.
            copies: False where nothing is learned before all of it is written.
        """
        self.crew.send(Order("capture", str(shards or "")))
        return self._capture(shards, copies=copies)

    def load(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint back."""
        self.crew.send(Order("load", json.dumps([str(checkpoint.path), _state(checkpoint)])))
        self._load(checkpoint)

    def load_weights(self, folder: Path) -> None:
        """Take the weights of a published version."""
        self.crew.send(Order("load_weights", str(folder)))
        load_into(self.learner.policy, folder)

    def reload(self, model_dir: Path) -> None:
        """Take the model directory's weights, as a fresh trainer does."""
        self.crew.send(Order("reload", str(model_dir)))
        self._reload(model_dir)

    def reset(self) -> None:
        """Empty the optimizer in place."""
        self.crew.send(Order("reset"))
        self._reset()

    def reset_reference(self, name: str) -> None:
        """Make the policy the reference, and empty the optimizer; `name` is its checkpoint's."""
        self.crew.send(Order("reset_reference", name))
        become_policy(self.learner, name)

    def dismiss(self) -> None:
        """Tell the others that it is over; nothing if one of them is gone already."""
        self.crew.send(Order("end"))

    def follow(self) -> None:
        """Carry out the leader's orders until the end (all ranks but 0).

        What ends a step on all ranks alike, the leader's loop decides about.

        Raises:
            RankLost: the leader, or another rank, is gone.
        """
        while True:
            order = self.crew.receive()
            if order.name == "end":
                self._finish_writing()
                return
            try:
                with naming_losses():
                    self._obey(order)
            except (StepAbandoned, ModelMismatch) as error:
                fields = {"rank": self.crew.rank, "reason": str(error)}
                logger.info("step.abandoned", extra=fields)

    def _obey(self, order: Order) -> None:
        learner = self.learner
        match order.name:
            case "learn":
                manifest = TrainingBatch.model_validate_json(order.text)
                vocab_size = learner.policy.vocab_size
                batch = decode_batch(manifest, order.bodies, vocab_size=vocab_size)
                self._learn(batch.groups, manifest.policy_version, _quiet)
            case "profile":
                self._profile(Path(order.text))
            case "measure":
                token_ids, version, name = json.loads(order.text)
                dtype = getattr(torch, name)
                measure(learner.policy, token_ids, policy_version=version, dtype=dtype)
            case "capture":
                self._capture(Path(order.text) if order.text else None)
            case "load":
                path, state = json.loads(order.text)
                checkpoint = Checkpoint(Path(path), CheckpointState.model_validate_json(state))
                self._load(checkpoint)
            case "load_weights":
                load_into(learner.policy, Path(order.text))
            case "reload":
                self._reload(Path(order.text))
            case "reset_reference":
                become_policy(learner, order.text)
            case "reset":
                self._reset()
            case _:
                raise ValueError(f"unknown order {order.name!r}")

    def _profile(self, folder: Path) -> None:
        config = self.learner.config.profiler
        if config.first_step:
            self.profiler = Profiler(config, folder, rank=self.crew.rank)

    def _learn(self, groups: Sequence[Group], step: int, progress: Progress) -> dict[str, float]:
        profiled = self.profiler.step() if self.profiler is not None else nullcontext()
        with naming_losses(), profiled:
            return learn(self.learner, groups, step=step, progress=self.crew.in_step(progress))

    def _capture(self, shards: Path | None, *, copies: bool = True) -> Captured:
        self._finish_writing()
        policy, optimizer = self.learner.policy, self.learner.optimizer
        with naming_losses():
            captured = capture(policy, optimizer, crew=self.crew, shards=shards, copies=copies)
        self._writing = captured.shards
        return captured

    def _finish_writing(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _reload(self, model_dir: Path) -> None:
        policy = self.learner.policy
        if isinstance(policy, LoraPolicy):
            return policy.begin_anew()
        fresh = load_policy(model_dir, policy.config, torch.device("cpu"))
        put_into(policy, fresh.module.state_dict())

    def _load(self, checkpoint: Checkpoint) -> None:
        checkpoint.load(self.learner.policy, self.learner.optimizer, crew=self.crew)
        remember(self.learner, checkpoint)

    def _reset(self) -> None:
        forget(self.learner)
        empty = make_optimizer(self.learner.policy, self.learner.config)
        self.learner.optimizer.load_state_dict(empty.state_dict())


def _quiet(_done: int, _total: int) -> None:
    """Only the leader has something to say."""


def _state(checkpoint: Checkpoint) -> str:
    return checkpoint.state.model_dump_json()
