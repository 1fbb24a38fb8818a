"""The reference of the KL penalty: which weights it holds, and how it comes to hold others.

It begins as the model directory's weights. A reset (`stages/reset.py`) makes it the policy of that
step; the step's own model checkpoint then holds its weights, and later checkpoints name that one.
Called on every rank (`parallel/team.py`).
"""

from __future__ import annotations

from typing import Final

import torch

from .checkpoint import Checkpoint
from .learner import Learner, make_optimizer
from .lora import LoraReference
from .weight_files import load_into

OWN: Final = None
"""Name of the model directory's weights."""


def become_policy(learner: Learner, name: str) -> None:
    """Make the policy's weights the reference's, and start the optimizer anew.

    Args:
        learner: has a reference.
        name: directory name of the checkpoint that will hold these weights.
    """
    assert learner.reference is not None
    source, target = learner.policy.weights(), learner.reference.weights()
    with torch.no_grad():
        for key, tensor in source.items():
            target[key].copy_(tensor)
    empty = make_optimizer(learner.policy, learner.config)
    learner.optimizer.load_state_dict(empty.state_dict())
    learner.memory.reference = learner.memory.held = name


def remember(learner: Learner, checkpoint: Checkpoint) -> None:
    """Take up what a checkpoint says of earlier steps, and the reference of its time.

    Raises:
        CheckpointError: the checkpoint that holds the reference is gone or damaged.
    """
    state = checkpoint.state
    learner.memory.resets = state.resets
    _hold(learner, state.reference, checkpoint)


def forget(learner: Learner) -> None:
    """As before the first step."""
    learner.memory.forget()
    _hold(learner, OWN, None)


def _hold(learner: Learner, name: str | None, checkpoint: Checkpoint | None) -> None:
    memory = learner.memory
    memory.reference = name
    if learner.reference is None or memory.held == name:
        return
    if name is OWN:
        _own(learner)
    else:
        assert checkpoint is not None
        load_into(learner.reference, checkpoint.path.parent / name)
    memory.held = name


def _own(learner: Learner) -> None:
    """The model directory's weights; of an adapter: none."""
    if isinstance(learner.reference, LoraReference):
        learner.reference.begin_anew()
        return
    assert learner.reference is not None
    assert learner.model_dir is not None
    load_into(learner.reference, learner.model_dir)
