"""When the reference of the KL penalty is replaced by the policy (ProRL, 2505.24864).

That it is replaced, with a fresh optimizer, when validation stagnates or degrades is the paper's;
what counts as that is our choice (algorithms.md, section 7). Pure functions of numbers: the state
lies in the model checkpoint, `stages/reset.py` feeds it once a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

Reason = Literal["validation", "kl"]


@dataclass(frozen=True, slots=True)
class ResetSettings:
    """Constants of the detector."""

    patience_steps: int = 100
    """Steps without a new best validation mean."""
    kl_factor: float = 3.0
    """Times its median that the KL may reach."""
    kl_window: int = 50
    """Steps before this one over which the median is taken."""
    min_apart_steps: int = 200
    """Steps between two resets."""


@dataclass(frozen=True, slots=True)
class ResetState:
    """What the detector remembers."""

    best_mean: float | None = None
    """Largest validation mean so far."""
    best_step: int = 0
    """The step that had it, or the last reset if that is later."""
    last_reset: int = 0
    """Step of the last reset; the first step counts as one."""
    kl: tuple[float, ...] = ()
    """KL to the reference of the last steps, at most `kl_window`, oldest first."""


def observe(
    state: ResetState,
    *,
    step: int,
    validation: float | None,
    kl: float | None,
    settings: ResetSettings,
) -> tuple[ResetState, Reason | None]:
    """The state after a step, and why the reference is to be reset now, if it is.

    A reset empties the window, because the KL starts at 0 again, and gives validation the whole
    patience anew; the best mean stays: less than it is no progress.

    Args:
        step: t, the policy version that the step's batch was leased at.
        validation: mean of the validation measure; None where there is none yet.
        kl: the step's KL to the reference, nats a token; None where nothing was trained.
    """
    best_mean, best_step = state.best_mean, state.best_step
    if validation is not None and (best_mean is None or validation > best_mean):
        best_mean, best_step = validation, step
    reason: Reason | None = None
    if kl is not None and math.isfinite(kl):
        is_full = len(state.kl) >= settings.kl_window
        if is_full and kl > settings.kl_factor * median(state.kl):
            reason = "kl"
        kept = (*state.kl, kl)[-settings.kl_window :]
    else:
        kept = state.kl
    if best_mean is not None and step - best_step >= settings.patience_steps:
        reason = "validation"
    if reason is None or step - state.last_reset < settings.min_apart_steps:
        return ResetState(best_mean, best_step, state.last_reset, kept), None
    return ResetState(best_mean, step, step, ()), reason
