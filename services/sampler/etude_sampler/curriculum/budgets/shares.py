"""Whole rollouts from real-valued shares, within bounds. Used by `cures` and `knapsack`.

The largest-remainder method is the classical one; the bounds, and what happens at them, are ours.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.statistics import Bools, Floats, Ints


def apportion(shares_B: Floats, total: int, *, low: int, high: int) -> Ints:
    """Whole numbers [B] in [low, high] near `total * shares / sum(shares)` that sum to `total`.

    Shares beyond a bound are set to it, and the others divide what is left in proportion; then
    everyone gets the whole part, and the largest remainders one more (ties: order).

    Args:
        shares_B: finite, >= 0; equal if all are 0.
        total: `B * low <= total <= B * high`.
        low: smallest number.
        high: largest number.

    Raises:
        ValueError: no such numbers exist.
    """
    num = len(shares_B)
    if not num * low <= total <= num * high:
        raise ValueError(f"{num} numbers from {low} to {high} cannot sum to {total}")
    ideal_B = _bounded(shares_B if np.any(shares_B > 0) else np.ones(num), total, low, high)
    whole_B: Ints = np.floor(np.round(ideal_B, 9)).astype(np.int64)
    rest_B = np.where(whole_B < high, np.round(ideal_B - whole_B, 9), -1.0)
    order = np.argsort(-rest_B, kind="stable")
    whole_B[order[: total - int(whole_B.sum())]] += 1
    return whole_B


def _bounded(shares_B: Floats, total: int, low: int, high: int) -> Floats:
    """Real numbers in [low, high] summing to `total`, in proportion where no bound holds.

    In every round the side that is violated by more in sum is fixed at its bound: no number that
    was fixed would leave it again, and the others stay within reach of what is left.
    """
    ideal_B = np.zeros(len(shares_B))
    open_B: Bools = np.ones(len(shares_B), dtype=np.bool_)
    left = float(total)
    while True:
        weight = float(shares_B[open_B].sum())
        num_open = int(np.count_nonzero(open_B))
        if weight <= 0.0:
            ideal_B[open_B] = left / max(num_open, 1)
            return ideal_B
        ideal_B[open_B] = left * shares_B[open_B] / weight
        below_B = open_B & (ideal_B < low)
        above_B = open_B & (ideal_B > high)
        if not (below_B.any() or above_B.any()):
            return ideal_B
        missing = float((low - ideal_B[below_B]).sum())
        over = float((ideal_B[above_B] - high).sum())
        fixed_B, bound = (below_B, low) if missing >= over else (above_B, high)
        ideal_B[fixed_B] = bound
        left -= bound * int(np.count_nonzero(fixed_B))
        open_B &= ~fixed_B
