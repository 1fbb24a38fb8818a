"""The objective: the loss of every trained token, and what to watch while it falls.

`L = -min(r A, clip(r, 1 - lo, 1 + hi) A)`, for A < 0 at most `-c A` if asked for (dual clip), times
a truncated importance weight against the engine that generated the token, plus an optional KL
penalty and entropy bonus (algorithms.md, 7). The ratio r is a token's or its sequence's.
Tokens are flattened: N trained tokens of a micro-batch. Used by `stages/learn.py`; what a token
weighs in the batch is `aggregation.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

RatioKind = Literal["token", "sequence"]


@dataclass(frozen=True, slots=True)
class ObjectiveSettings:
    """The constants of the objective."""

    clip_low: float
    """lo: the ratio is clipped at 1 - lo from below."""
    clip_high: float
    """hi: the ratio is clipped at 1 + hi from above."""
    importance_cap: float | None
    """Cap of the truncated importance weight; None switches the weight off."""
    kl_beta: float
    """Weight of the KL penalty; 0 is none."""
    entropy_coef: float
    """Weight of the entropy bonus; 0 is none."""
    ratio: RatioKind = "token"
    dual_clip: float | None = None
    """c: for A < 0 a token's loss is at most -c A; above 1 + clip_high, None is none."""


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """What is known of N trained tokens."""

    lp_new_N: Tensor
    """Log-probability under the model being trained; carries the gradient."""
    lp_old_N: Tensor
    """Under the same model before this step's first update, computed by the trainer."""
    lp_rollout_N: Tensor
    """As the engine reported it when it sampled the token."""
    advantage_N: Tensor
    sequence_N: Tensor
    """Index of the token's sequence, for ratios that a sequence shares."""
    lp_ref_N: Tensor | None = None
    """Under the reference model; needed for a KL penalty."""
    entropy_N: Tensor | None = None
    """Entropy of the model's distribution there; needed, with gradient, for a bonus."""


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """The loss of N tokens, and its parts without gradient."""

    loss_N: Tensor
    ratio_N: Tensor
    clipped_low_N: Tensor
    """The lower clip took the token's gradient away (A < 0 and r < 1 - lo)."""
    clipped_high_N: Tensor
    """The upper clip took it away (A > 0 and r > 1 + hi)."""
    importance_N: Tensor
    """Truncated importance weight; 1 where switched off."""
    capped_N: Tensor
    """Where the cap cut the importance weight."""
    dual_clipped_N: Tensor
    """Where the dual clip took the gradient away (A < 0 and r > c)."""
    kl_ref_N: Tensor | None


def token_ratio(lp_new_N: Tensor, lp_old_N: Tensor, _sequence_N: Tensor) -> Tensor:
    """`exp(lp_new - lp_old)`, token by token (PPO, GRPO)."""
    return (lp_new_N - lp_old_N).exp()


def sequence_ratio(lp_new_N: Tensor, lp_old_N: Tensor, sequence_N: Tensor) -> Tensor:
    """`exp(mean_t(lp_new - lp_old))` over the token's sequence, at each of its tokens (GSPO).

    2507.18071. All trained tokens of a sequence must be here, in any order.
    """
    _, number_N = sequence_N.unique(return_inverse=True)
    log_ratio_N = lp_new_N - lp_old_N
    count_S = number_N.bincount().to(log_ratio_N.dtype)
    sum_S = torch.zeros_like(count_S).index_add(0, number_N, log_ratio_N)
    ratio_S: Tensor = (sum_S / count_S).exp()
    return ratio_S.gather(0, number_N)


RATIOS: Final[dict[RatioKind, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "token": token_ratio,
    "sequence": sequence_ratio,
}


def clipped_surrogate(
    ratio_N: Tensor,
    advantage_N: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Tensor:
    """`-min(r A, clip(r, 1 - lo, 1 + hi) A)` [N] (PPO; two bounds as in DAPO, 2503.14476).

    With `dual_clip` c, `min(that, -c A)` where A < 0: a token that the old policy hardly gave
    cannot push without limit.
    """
    clipped_N = ratio_N.clamp(1.0 - clip_low, 1.0 + clip_high)
    loss_N = -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)
    if dual_clip is None:
        return loss_N
    bounded_N = torch.minimum(loss_N, -dual_clip * advantage_N)
    return torch.where(advantage_N < 0, bounded_N, loss_N)


def truncated_importance(lp_old_N: Tensor, lp_rollout_N: Tensor, *, cap: float) -> Tensor:
    """`min(exp(lp_old - lp_rollout), cap)` [N], without gradient.

    Corrects for an engine whose probabilities differ from the trainer's, or that ran older
    weights. The idea is published (truncated importance sampling), the cap of 2 is our choice.
    """
    return (lp_old_N - lp_rollout_N).detach().exp().clamp(max=cap)


def kl_k3(lp_ref_N: Tensor, lp_new_N: Tensor) -> Tensor:
    """`exp(d) - d - 1`, d = lp_ref - lp_new: the k3 estimate of KL(new || ref), never negative."""
    d_N = lp_ref_N - lp_new_N
    return d_N.exp() - d_N - 1.0


def token_losses(tokens: TokenInputs, settings: ObjectiveSettings) -> TokenLosses:
    """The loss of every token [N]; multiply by `aggregation.token_weights` and sum.

    The importance weight multiplies the surrogate only; penalty and bonus are expectations under
    the model itself.

    Raises:
        ValueError: a penalty without reference, or a bonus without entropy.
    """
    ratio_N = RATIOS[settings.ratio](tokens.lp_new_N, tokens.lp_old_N, tokens.sequence_N)
    loss_N = clipped_surrogate(
        ratio_N,
        tokens.advantage_N,
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        dual_clip=settings.dual_clip,
    )
    importance_N = torch.ones_like(tokens.lp_rollout_N)
    capped_N = torch.zeros_like(importance_N, dtype=torch.bool)
    if settings.importance_cap is not None:
        importance_N = truncated_importance(
            tokens.lp_old_N, tokens.lp_rollout_N, cap=settings.importance_cap
        )
        capped_N = importance_N >= settings.importance_cap
        loss_N = loss_N * importance_N
    kl_N = None if tokens.lp_ref_N is None else kl_k3(tokens.lp_ref_N, tokens.lp_new_N)
    if settings.kl_beta > 0.0:
        if kl_N is None:
            raise ValueError("a KL penalty needs the reference's log-probabilities")
        loss_N = loss_N + settings.kl_beta * kl_N
    if settings.entropy_coef > 0.0:
        if tokens.entropy_N is None:
            raise ValueError("an entropy bonus needs the entropy of every token")
        loss_N = loss_N - settings.entropy_coef * tokens.entropy_N
    ratio_N = ratio_N.detach()
    rises_N = tokens.advantage_N > 0
    falls_N = tokens.advantage_N < 0
    return TokenLosses(
        loss_N=loss_N,
        ratio_N=ratio_N,
        clipped_low_N=falls_N & (ratio_N < 1.0 - settings.clip_low),
        clipped_high_N=rises_N & (ratio_N > 1.0 + settings.clip_high),
        importance_N=importance_N,
        capped_N=capped_N,
        dual_clipped_N=falls_N & (ratio_N > (settings.dual_clip or math.inf)),
        kl_ref_N=None if kl_N is None else kl_N.detach(),
    )
