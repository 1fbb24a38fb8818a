"""The simulated learner: compare strategies cheaply, on equal rollout budgets (algorithms.md 11).

It tests plumbing and strategies and says nothing about language models. Pure functions of seeds;
above `curriculum` and `leasing`, whose parts every arm draws through.
"""

from __future__ import annotations

from .metrics import TARGET, Metrics, measure
from .plan import Plan
from .practice import Practice
from .protocol import (
    NUM_SEEDS,
    Estimate,
    Outcome,
    Result,
    arms_of,
    compare,
    estimate,
    simulate,
    t_quantile,
)
from .strategies import BASELINE, ORACLES, Arm, make_arm, strategy_names
from .trace import Trace
from .world import World, make_world

__all__ = [
    "BASELINE",
    "NUM_SEEDS",
    "ORACLES",
    "TARGET",
    "Arm",
    "Estimate",
    "Metrics",
    "Outcome",
    "Plan",
    "Practice",
    "Result",
    "Trace",
    "World",
    "arms_of",
    "compare",
    "estimate",
    "make_arm",
    "make_world",
    "measure",
    "simulate",
    "strategy_names",
    "t_quantile",
]
