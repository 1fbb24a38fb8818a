"""Credit: where component weights act in training, and what trajectories say of single tokens."""

from __future__ import annotations

from typing import Literal

from .base import Request


class CreditSpec(Request):
    """Where the curriculum's component weights act, besides in its lanes (algorithms.md, 3.6)."""

    component_weights_in: Literal["reward", "advantage"] = "reward"
    """`reward`: R is the weighted sum of its components. `advantage`: R weighs all alike, and the
    trainer compares each component by itself under the weights that came with the lease
    (`[advantage] kind = "decoupled"`); the gate must then look at components."""
    spans: bool = False
    """Trajectories carry which reward component a sampled token belongs to, for trainers that give
    a component's part to its own tokens (`credit = "spans"`)."""
