"""When a rollout is cloned in mid-episode: ARPO's entropy rule (2507.19849; algorithms.md 8).

After a tool's answer a chain is cloned with probability `clip(.5 + w (H_now - H_start), 0, 1)`
(`paper`). H is the mean entropy of the first tokens after the answer, H_start that of the chain's
first completion; the mean, and measuring after the answer and per chain, are our choice. Pure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

NUM_TOP = 10
"""Most likely tokens that the entropy is made of."""
NUM_TOKENS = 20
"""Tokens that it is averaged over."""


def entropy(top_logprobs: Sequence[Sequence[float]], *, vocab_size: int) -> float | None:
    """H of a completion's beginning, in [0, 1): mean of `-sum p ln p / ln(vocabulary)`.

    Args:
        top_logprobs: at each token the most likely log-probabilities in nats, largest first; at
            most 10 of them and 20 tokens are read.
        vocab_size: tokens of the model, at least 2.

    Returns:
        None where there is no token.
    """
    first = [row[:NUM_TOP] for row in top_logprobs[:NUM_TOKENS]]
    if not first or vocab_size < 2:
        return None
    sums = [-sum(math.exp(lp) * lp for lp in row if lp > -math.inf) for row in first]
    return sum(sums) / len(sums) / math.log(vocab_size)


def branch_probability(rise: float, *, weight: float) -> float:
    """`clip(.5 + w dH, 0, 1)`; dH = -3, -1, 0, 1, 2.5 at w = .2 give 0, .3, .5, .7, 1."""
    return min(1.0, max(0.0, 0.5 + weight * rise))


def chance(seed: int, chain: int, turn: int) -> float:
    """A uniform number in [0, 1) for one decision: the same for the same seed, chain and turn."""
    digest = hashlib.sha256(f"{seed}/{chain}/{turn}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
