"""What a run of the simulated learner is measured by (algorithms.md 11, ours).

Everything counts rollouts spent, those of dropped groups included. Neighbours: `practice` makes the
traces, `protocol` compares strategies.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from etude_sampler.statistics import Floats, Ints

from .mastering import errors
from .strategies import SUBTASKS
from .trace import Trace

TARGET = 0.60
"""True mean success over sound tasks that counts as learned."""
Metrics = Mapping[str, float | None]
"""Metric -> value; None: the target was not reached within the budget."""


def measure(trace: Trace, *, target: float = TARGET) -> Metrics:
    """All metrics of one run; shares are in [0, 1]."""
    budget = float(trace.rollouts_B[-1])
    last_spent_N = trace.rollouts_B[trace.last_served_N]
    known_K = ~np.isnan(trace.mastery_K)
    error_K = np.abs(trace.mastery_K - trace.held_K)[known_K]
    return {
        "final_success": float(trace.success_B[-1]),
        "area_under_curve": float(np.trapezoid(trace.success_B, trace.rollouts_B)) / budget,
        "informative_share": trace.num_informative / trace.num_groups,
        "rollouts_to_target": _first(trace.success_B, trace.rollouts_B, target=target),
        "steps_to_target": _first(trace.success_B, trace.steps_B, target=target),
        "num_steps": float(trace.steps_B[-1]),
        "never_served": float(np.mean(trace.last_served_N == 0)),
        "not_served_last_quarter": float(np.mean(last_spent_N <= 0.75 * budget)),
        "mastery_error": float(error_K.max()) if known_K.any() else None,
        **errors(trace.estimates),
        **{f"chance_{k}": float(p) for k, p in zip(SUBTASKS, trace.component_K, strict=True)},
    }


def _first(success_B: Floats, axis_B: Ints, *, target: float) -> float | None:
    """Where the curve first reaches the target; None if it does not."""
    reached = np.flatnonzero(success_B >= target)
    return float(axis_B[reached[0]]) if reached.size else None
