"""Slots of a batch per lane, and the probability of one slot (algorithms.md 1.2 and 3.2).

The reference of what the draw script does; also used by replay, tests and the simulation.
"""

from __future__ import annotations

import math

import numpy as np

from etude_sampler.statistics.arrays import Floats, Ints


def allot_slots(shares_L: Floats, credits_L: Floats, num_slots: int) -> tuple[Ints, Floats]:
    """Deal `num_slots` slots to L lanes by credit (our choice).

    For each slot every lane's credit grows by its share, and the lane with the largest credit
    pays 1 for it. Credits are compared as `floor(credit 1e9 + 0.5)`; a tie goes to the first of
    the lanes 1..L-1, and to lane 0, `uniform`, only if no other lane shares it.

    Args:
        shares_L: [L] shares, summing to 1, in lane order.
        credits_L: [L] credits before; zeros at the start of a run.
        num_slots: slots to deal, at least 0.

    Returns:
        Slots [L], summing to `num_slots`, and the credits after.
    """
    shares, credits = [float(x) for x in shares_L], [float(x) for x in credits_L]
    slots = [0] * len(shares)
    order = [*range(1, len(shares)), 0]
    for _ in range(num_slots):
        credits = [credit + share for credit, share in zip(credits, shares, strict=True)]
        rounded = [math.floor(credit * 1e9 + 0.5) for credit in credits]
        pick = max(order, key=rounded.__getitem__)
        credits[pick] -= 1.0
        slots[pick] += 1
    return np.array(slots, dtype=np.int64), np.array(credits, dtype=np.float64)


def slot_probability(weights_NL: Floats, totals_L: Floats, shares_L: Floats) -> Floats:
    """Probability of one slot for each of N waiting tasks: `sum_l share_l w_il / W_l`.

    The share of a lane with nothing waiting counts for lane 0, `uniform`, which takes its slots.
    The order of operations is the draw script's, so the numbers agree bit for bit.
    Any unit of weight will do, as long as a lane's weights and its total use the same.

    Args:
        weights_NL: [N, L] weights in the lanes; 0 where a task does not stand in a lane.
        totals_L: [L] sums over all waiting tasks.
        shares_L: [L] shares of the lanes.

    Returns:
        [N] probabilities; they sum to 1 over all waiting tasks.
    """
    shares = [0.0] * len(totals_L)
    for lane, total in enumerate(totals_L):
        shares[lane if total > 0 else 0] += float(shares_L[lane])
    probability_N = np.zeros(len(weights_NL))
    for lane, total in enumerate(totals_L):
        if total > 0:
            probability_N += shares[lane] * weights_NL[:, lane] / float(total)
    return probability_N
