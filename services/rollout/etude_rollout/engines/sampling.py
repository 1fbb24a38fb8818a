"""Drawing tokens: temperature, nucleus and inverse-CDF sampling over a batch of logits.

Pure tensor functions; randomness comes in as uniforms, so a draw can be repeated. Used by
`decoding.py`.
"""

from __future__ import annotations

import torch


def sampled_distribution(
    logits_BV: torch.Tensor, *, temperature_B: torch.Tensor, top_p_B: torch.Tensor
) -> torch.Tensor:
    """Log-probabilities [B, V] of the distribution to sample from, float32, in nats.

    Rows with temperature 0 keep the distribution at temperature 1: their token is the most likely
    one, and its log-probability says how likely. Nucleus (Holtzman et al. 2019, section 3.1): the
    smallest set of most likely tokens whose mass reaches `top_p`, renormalised; never empty.
    """
    scale_B = torch.where(temperature_B > 0, temperature_B, torch.ones_like(temperature_B))
    logprobs_BV = torch.log_softmax(logits_BV.float() / scale_B[:, None], dim=-1)
    if bool((top_p_B >= 1.0).all()):
        return logprobs_BV
    sorted_BV, order_BV = logprobs_BV.sort(dim=-1, descending=True)
    mass_before_BV = sorted_BV.exp().cumsum(dim=-1) - sorted_BV.exp()
    is_dropped_BV = mass_before_BV >= top_p_B[:, None]
    is_dropped_BV[:, 0] = False
    is_dropped_BV &= (top_p_B < 1.0)[:, None]
    dropped_BV = torch.zeros_like(is_dropped_BV).scatter(1, order_BV, is_dropped_BV)
    return torch.log_softmax(logprobs_BV.masked_fill(dropped_BV, float("-inf")), dim=-1)


def draw_tokens(
    logprobs_BV: torch.Tensor, *, uniforms_B: torch.Tensor, is_greedy_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B] and their log-probabilities [B], by inverse CDF in float64.

    `uniforms_B` lies in [0, 1). Greedy rows take the most likely token. A token of probability
    zero is never drawn.
    """
    probabilities_BV = logprobs_BV.double().exp()
    cdf_BV = probabilities_BV.cumsum(dim=-1)
    # A right-sided search skips tokens of zero mass; scaling by the last value absorbs rounding.
    targets_B1 = (uniforms_B.double() * cdf_BV[:, -1]).unsqueeze(1)
    drawn_B = torch.searchsorted(cdf_BV, targets_B1, right=True).squeeze(1)
    last_B = (probabilities_BV > 0).long().cumsum(dim=-1).argmax(dim=-1)
    tokens_B = torch.minimum(drawn_B, last_B)
    tokens_B = torch.where(is_greedy_B, logprobs_BV.argmax(dim=-1), tokens_B)
    return tokens_B, logprobs_BV.gather(1, tokens_B[:, None]).squeeze(1)
