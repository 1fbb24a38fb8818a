"""Advantages per reward component, and which tokens they are given to (algorithms.md, 3.6).

Normalising each component inside the group and summing afterwards is GDPO's idea (2601.05242), as
that section states it; weights, threshold and token spans are our choice. Pure functions of
tensors; `stages/credit.py` applies them to a batch.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from .advantages import EPSILON

KEEP_VARIANCE: Final = 1e-8
"""Population variance that a component must exceed inside the group; below it is all alike."""


def component_advantages(q_GK: Tensor, weights_K: Tensor) -> Tensor:
    """`w_k (q_jk - mean) / (sample std + 1e-6)` [G, K], float64; 0 where a component is all alike.

    Args:
        q_GK: raw components in [0, 1]; nan where a rollout does not carry one, and 0 there.
        weights_K: w of the group's lease.

    Raises:
        ValueError: shapes disagree, a component is infinite, a weight negative or not finite.
    """
    if q_GK.ndim != 2 or weights_K.shape != q_GK.shape[1:]:
        raise ValueError(f"components {list(q_GK.shape)} and weights {list(weights_K.shape)}")
    if (
        bool(q_GK.isinf().any())
        or not bool(weights_K.isfinite().all())
        or bool((weights_K < 0).any())
    ):
        raise ValueError("components must not be infinite, weights finite and not negative")
    q_GK = q_GK.double()
    has_GK = ~q_GK.isnan()
    num_K = has_GK.sum(dim=0)
    filled_GK = q_GK.nan_to_num()
    mean_K = filled_GK.sum(dim=0) / num_K.clamp(min=1)
    centred_GK = torch.where(has_GK, filled_GK - mean_K, 0.0)
    squares_K = centred_GK.square().sum(dim=0)
    std_K = (squares_K / (num_K - 1).clamp(min=1)).sqrt()
    varies_K = squares_K / num_K.clamp(min=1) > KEEP_VARIANCE
    scaled_GK = centred_GK / (std_K + EPSILON)
    return torch.where(varies_K, scaled_GK, 0.0) * weights_K.double()


def token_credit(span_n: Tensor, total: Tensor, by_span_P: Tensor) -> Tensor:
    """The advantage of every trained token [n] of one rollout.

    Args:
        span_n: 0 where a token belongs to no component (the thought), p for span p.
        total: the rollout's whole advantage, for tokens of span 0.
        by_span_P: that of each span's component; span p is `by_span_P[p - 1]`.
    """
    return torch.cat([total.reshape(1), by_span_P])[span_n.long()]
