"""The learner: a policy with its optimizer, reference and what it remembers between steps.

Built by `service.py`, used by `stages/`. What a step computes is `stages/learn.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from .algorithms.resets import ResetState
from .config import TrainingConfig
from .model import Policy
from .parallel.crew import ALONE, Crew


@dataclass(slots=True)
class Room:
    """How much of a pass fits the memory, learned the hard way; kept until the process ends."""

    max_tokens: int | None = None
    """Below the configuration's `batch.micro_batch_tokens` after a pass did not fit."""
    num_halved: int = 0
    """How often that was, in this process."""


@dataclass(slots=True)
class Memory:
    """What a learner remembers of earlier steps; part of the model checkpoint."""

    resets: ResetState = field(default_factory=ResetState)
    """What the detector of reference resets has seen."""
    reference: str | None = None
    """Directory name of the model checkpoint that the reference equals; None: the model's own."""
    held: str | None = None
    """What the reference holds now, named likewise."""

    def forget(self) -> None:
        """As before the first step."""
        self.resets = ResetState()
        self.reference = None


@dataclass(frozen=True, slots=True)
class Learner:
    """What a step works with."""

    policy: Policy
    optimizer: torch.optim.Optimizer
    reference: Policy | None
    """The frozen model of the KL penalty; null without one."""
    config: TrainingConfig
    shares_prompts: bool
    crew: Crew = ALONE
    """The ranks that learn together, each on its share of a batch."""
    room: Room = field(default_factory=Room)
    """What fits a pass."""
    memory: Memory = field(default_factory=Memory)
    """What earlier steps left."""
    model_dir: Path | None = None
    """Where policy and reference came from."""


def make_optimizer(policy: Policy, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW with empty moments over what is trained; the rate is set at every step."""
    settings = config.optimizer
    return torch.optim.AdamW(
        policy.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
