"""The result of scoring one completion, and the reward as a weighted sum of its components.

``weighted_reward`` is algorithms.md 3.6 (our formula; with all weights 1 it is ToolRL's reward).
Made by ``scoring.py``; read by the worker, which reports it, and by ``score.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .config import DEFAULT_BOUNDS, Bounds


@dataclass(frozen=True, slots=True)
class Scored:
    """What one completion earned."""

    total: float
    """The rule reward R = format + correctness + length."""
    format: float
    """Reward of the format check, between the bounds of the step, times its weight."""
    correctness: float
    """Reward of the calls, between the bounds of the step; 0 if the gold has no calls."""
    length: float
    """Reward of the thought's length; 0 unless switched on."""
    components: dict[str, float]
    """Active components only, each in [0, 1] (algorithms.md 3.1); not moved by switches."""
    success: bool
    """Every active component equals 1."""
    num_gold_calls: int
    """n."""
    num_gold_params: int
    """K: gold parameters that must be present."""


def weighted_reward(
    components: Mapping[str, float],
    *,
    n: int,
    k: int,
    weights: Mapping[str, float] | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> float:
    """R of algorithms.md 3.6, without length, for n gold calls and K gold parameters.

    A weight not given is 1. Raises ValueError for a negative or non-finite weight, and if the
    weights of the call's components are all 0.
    """
    format_part, correctness = weighted_parts(
        components, n=n, k=k, weights=weights or {}, bounds=bounds
    )
    return format_part + correctness


def weighted_parts(
    components: Mapping[str, float],
    *,
    n: int,
    k: int,
    weights: Mapping[str, float],
    bounds: Bounds,
) -> tuple[float, float]:
    """The format's and the correctness's part of :func:`weighted_reward`."""
    scale = {name: _weight(weights, name) for name in components}
    worth = bounds.format_max if components["format"] == 1.0 else bounds.format_min
    format_part = scale["format"] * worth
    if n == 0:
        return format_part, 0.0
    credit = scale["tool_name"] * components["tool_name"]
    credit += scale["param_name"] * n * components["param_name"]
    largest = scale["tool_name"] + scale["param_name"] * n
    if k > 0:
        credit += scale["param_value"] * k * components["param_value"]
        largest += scale["param_value"] * k
    if largest <= 0.0:
        raise ValueError("the weights of tool_name, param_name and param_value are all 0")
    spread = bounds.correctness_max - bounds.correctness_min
    return format_part, spread * (credit / largest) + bounds.correctness_min


def _weight(weights: Mapping[str, float], name: str) -> float:
    weight = weights.get(name, 1.0)
    if not 0.0 <= weight < float("inf"):
        raise ValueError(f"weight of {name} must be a finite number >= 0, not {weight!r}")
    return weight
