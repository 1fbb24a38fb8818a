"""What the trainer is doing now: written by the loop's thread, read by the API's.

One lock, small values; `api/` renders it as JSON and as Prometheus metrics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .validation import Evaluation


class Stage(StrEnum):
    """Where in a step the trainer is."""

    STARTING = "starting"
    """Loading the model and agreeing with the sampler on a version."""
    FETCH = "fetch"
    """Waiting for a training batch."""
    TRAIN = "train"
    """Decoding, log-probabilities, updates."""
    CHECKPOINT = "checkpoint"
    """Writing the model checkpoint."""
    PUBLISH = "publish"
    """Writing the weights for the rollout workers."""
    ACK = "ack"
    """Telling the sampler."""
    RECOVER = "recover"
    """Going back to the announced version."""
    STOPPED = "stopped"
    """Ended as asked."""
    FAILED = "failed"
    """Ended by an error."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at one moment."""

    stage: Stage = Stage.STARTING
    stage_since_s: float = field(default_factory=time.monotonic)
    """On the monotonic clock."""
    run_id: str | None = None
    policy_version: int | None = None
    """The version that the model has now."""
    num_steps: int = 0
    """Steps of this process."""
    num_rolled_back: int = 0
    """Steps of this process that were lost with their lease."""
    last_metrics: dict[str, float] = field(default_factory=dict)
    """Of the last step."""
    last_seconds: dict[str, float] = field(default_factory=dict)
    """Of the last step, by stage."""
    validation: Evaluation | None = None
    """The newest evaluation of a version."""
    num_micro_batches: int = 0
    """Of the update that is running."""
    num_micro_batches_done: int = 0
    reaches_sampler: bool = False
    """Whether the sampler answered the last call."""
    detail: str = ""
    """Why it waits or failed."""


class StatusBoard:
    """A snapshot that one thread replaces and others read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot = Snapshot()

    def read(self) -> Snapshot:
        """The newest snapshot."""
        with self._lock:
            return self._snapshot

    def update(self, **changes: object) -> None:
        """Replace fields of the snapshot."""
        with self._lock:
            self._snapshot = replace(self._snapshot, **changes)  # type: ignore[arg-type]

    def enter(self, stage: Stage, detail: str = "") -> None:
        """Note that a stage begins, or goes on."""
        before = self.read()
        since_s = before.stage_since_s if before.stage is stage else time.monotonic()
        self.update(stage=stage, stage_since_s=since_s, detail=detail)

    @contextmanager
    def during(
        self, stage: Stage, seconds: dict[str, float] | None = None, *, is_shown: bool = True
    ) -> Iterator[None]:
        """Enter a stage and add its time to a step's.

        Args:
            stage: what begins.
            seconds: of the step, by stage; None where the time is nobody's.
            is_shown: False for what goes on beside the loop's own stage.
        """
        if is_shown:
            self.enter(stage)
        began = time.monotonic()
        try:
            yield
        finally:
            if seconds is not None:
                spent = time.monotonic() - began
                seconds[stage.value] = seconds.get(stage.value, 0.0) + spent

    def finish_step(
        self,
        policy_version: int,
        num_steps: int,
        metrics: dict[str, float],
        seconds: dict[str, float],
    ) -> None:
        """Note a step that counts."""
        self.update(
            policy_version=policy_version,
            num_steps=num_steps,
            last_metrics=dict(metrics),
            last_seconds=dict(seconds),
            num_micro_batches=0,
            num_micro_batches_done=0,
        )
