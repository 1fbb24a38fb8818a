"""Weights as integers, so that a lane's total is an exact sum (algorithms.md 1.2, L1).

Neighbours: the weighers give real weights, the lanes race with these integers.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.statistics.arrays import Floats, Ints


def micro(weights: Floats) -> Ints:
    """Weights in units of 1e-6, rounded, at least 1 where positive; any shape.

    Raises:
        ValueError: a weight is negative, infinite or nan.
    """
    if not np.all(np.isfinite(weights) & (weights >= 0.0)):
        raise ValueError("weights must be finite and not negative")
    rounded = np.rint(weights * 1e6).astype(np.int64)
    return np.where(weights > 0.0, np.maximum(rounded, 1), 0)
