"""The trainer's errors: one root; the command turns each into one line and an exit code."""

from __future__ import annotations

from typing import ClassVar


class TrainerError(Exception):
    """Root of everything that ends a trainer for a reason it can name."""

    exit_code: ClassVar[int] = 1


class ConfigError(TrainerError, ValueError):
    """A training configuration that is not valid; the message names the field."""

    exit_code = 2


class ModelError(TrainerError, ValueError):
    """A model directory that cannot be loaded, or a model that this trainer cannot train."""

    exit_code = 2


class ModelMismatch(TrainerError, ValueError):
    """Trajectories that this model cannot have produced (a token outside its vocabulary)."""


class CheckpointError(TrainerError, ValueError):
    """A model checkpoint that is incomplete or belongs to another model."""


class WeightsUnknown(TrainerError, LookupError):
    """The run announces model weights that this trainer can neither find nor read."""


class CannotResume(TrainerError, LookupError):
    """The run is ahead of this trainer and cannot be taken back; the message says what to do."""


class AmbiguousRun(TrainerError, LookupError):
    """Several runs have the name that was given."""

    exit_code = 2


class StateInUse(TrainerError, RuntimeError):
    """Another trainer works in the same state directory."""


class RankLost(TrainerError, RuntimeError):
    """Another process of the same trainer is gone; all of them end, and `torchrun` may restart."""


class OutOfMemory(TrainerError, RuntimeError):
    """A pass that does not fit the memory and cannot be made smaller; the batch is given back."""


class LeaseLost(TrainerError):
    """The training batch belongs to somebody else now; never leaves the loop."""


class Stopped(TrainerError):
    """A clean stop was asked for in the middle of a step; never leaves the loop."""
