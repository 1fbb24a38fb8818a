"""Log-probabilities of the output layer without all its logits: a chunk of tokens at a time.

One autograd function: forward and backward both walk over chunks of tokens, and of the forward pass
only the last chunk's logits are kept; the others are multiplied out again. Entropy costs nothing
extra. Used by `model.py` for linear layers without bias; others go through their own module there.

The formulas: with z = h W^T / temperature, lp = z_target - logsumexp(z), H = -sum(p log p),
`d lp / dz_j = [j = target] - p_j` and `d H / dz_j = -p_j (log p_j + H)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK_ELEMENTS: Final = {"cpu": 1 << 19}
"""Logits that one elementwise kernel takes: in the processor's cache, so that the passes over a
chunk cost little beside its product."""
DEFAULT_BLOCK_ELEMENTS: Final = 1 << 23


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How the output layer is computed."""

    temperature: float
    """Logits are divided by it."""
    chunk_tokens: int
    """Tokens whose logits are held at a time."""
    dtype: torch.dtype
    """Type of the products; sums over the vocabulary are float32."""


def linear_logprobs(
    hidden_nH: Tensor,
    weight_VH: Tensor,
    target_n: Tensor,
    options: HeadOptions,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of its distribution, both float32 [n], in nats."""
    pair: tuple[Tensor, Tensor] = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_nH, weight_VH, target_n, options
    )
    return pair


class _Context(FunctionCtx):
    """What the two passes share."""

    options: HeadOptions
    kept: Tensor | None
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]


class _LinearLogprobs(torch.autograd.Function):
    """`linear_logprobs` with its gradient."""

    @staticmethod
    def forward(
        ctx: _Context,
        hidden_nH: Tensor,
        weight_VH: Tensor,
        target_n: Tensor,
        options: HeadOptions,
    ) -> tuple[Tensor, Tensor]:
        """See `linear_logprobs`."""
        weight = weight_VH.to(options.dtype)
        count = len(hidden_nH)
        lp_n = torch.empty(count, dtype=torch.float32, device=hidden_nH.device)
        entropy_n = torch.empty_like(lp_n)
        normaliser_n = torch.empty_like(lp_n)
        kept: Tensor | None = None
        for part in _parts(count, options.chunk_tokens):
            kept = None  # the last chunk's logits go before the next one's come
            kept = _logits(hidden_nH[part], weight, options)
            _fold(kept, target_n[part], lp_n[part], entropy_n[part], normaliser_n[part])
        ctx.options = options
        ctx.kept = kept if any(ctx.needs_input_grad[:2]) else None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden_nH, weight_VH, target_n, entropy_n, normaliser_n)
        return lp_n, entropy_n

    @staticmethod
    @once_differentiable
    def backward(
        ctx: _Context, grad_lp_n: Tensor | None, grad_entropy_n: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Gradients of hidden states and weight."""
        hidden_nH, weight_VH, target_n, entropy_n, normaliser_n = ctx.saved_tensors
        options, kept = ctx.options, ctx.kept
        ctx.kept = None
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        weight = weight_VH.to(options.dtype)
        grad_hidden_nH = torch.empty_like(hidden_nH) if wants_hidden else None
        grad_weight_VH = torch.zeros_like(weight_VH, dtype=torch.float32) if wants_weight else None
        for part in reversed(_parts(len(hidden_nH), options.chunk_tokens)):
            z_cV = _logits(hidden_nH[part], weight, options) if kept is None else kept
            kept = None
            _gradient(
                z_cV,
                target_n[part],
                normaliser_n[part],
                entropy_n[part],
                grads=(
                    None if grad_lp_n is None else grad_lp_n[part],
                    None if grad_entropy_n is None else grad_entropy_n[part],
                ),
            )
            if options.temperature != 1.0:
                z_cV /= options.temperature
            grad_cV = z_cV.to(options.dtype)
            if grad_hidden_nH is not None:
                grad_hidden_nH[part] = grad_cV @ weight
            if grad_weight_VH is not None:
                _add_product(grad_weight_VH, grad_cV, hidden_nH[part].to(options.dtype))
            del z_cV, grad_cV
        return (
            grad_hidden_nH,
            None if grad_weight_VH is None else grad_weight_VH.to(weight_VH.dtype),
            None,
            None,
        )


def _parts(count: int, size: int) -> list[slice]:
    return [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]


def _rows(z_cV: Tensor) -> list[slice]:
    """Rows that one kernel takes."""
    elements = BLOCK_ELEMENTS.get(z_cV.device.type, DEFAULT_BLOCK_ELEMENTS)
    return _parts(len(z_cV), max(1, elements // z_cV.shape[1]))


def _logits(hidden_cH: Tensor, weight: Tensor, options: HeadOptions) -> Tensor:
    """Tempered logits [c, V], float32, in memory of their own."""
    z_cV = (hidden_cH.to(options.dtype) @ weight.T).float()
    if options.temperature != 1.0:
        z_cV /= options.temperature
    return z_cV


def _fold(
    z_cV: Tensor, target_c: Tensor, lp_c: Tensor, entropy_c: Tensor, normaliser_c: Tensor
) -> None:
    """Write log-probability, entropy and logsumexp of every row; the logits stay."""
    for rows in _rows(z_cV):
        z_rV = z_cV[rows]
        lp_rV = z_rV.log_softmax(dim=-1)
        lp_r = lp_rV.gather(1, target_c[rows, None])[:, 0]
        lp_c[rows] = lp_r
        normaliser_c[rows] = z_rV.gather(1, target_c[rows, None])[:, 0] - lp_r
        entropy_c[rows] = -torch.linalg.vecdot(lp_rV.exp(), lp_rV)


def _gradient(
    z_cV: Tensor,
    target_c: Tensor,
    normaliser_c: Tensor,
    entropy_c: Tensor,
    *,
    grads: tuple[Tensor | None, Tensor | None],
) -> None:
    """Turn logits into the gradient of the tempered logits, in place."""
    grad_lp_c, grad_entropy_c = grads
    for rows in _rows(z_cV):
        z_rV = z_cV[rows].sub_(normaliser_c[rows, None])
        if grad_entropy_c is None:
            z_rV.exp_()
            if grad_lp_c is None:
                z_rV.zero_()
                continue
            z_rV.mul_(-grad_lp_c[rows, None])
        else:
            slope_rV = z_rV.add(entropy_c[rows, None]).mul_(grad_entropy_c[rows, None])
            if grad_lp_c is not None:
                slope_rV.add_(grad_lp_c[rows, None])
            z_rV.exp_().mul_(slope_rV.neg_())
        if grad_lp_c is not None:
            z_rV.scatter_add_(1, target_c[rows, None], grad_lp_c[rows, None])


def _add_product(sum_VH: Tensor, grad_cV: Tensor, hidden_cH: Tensor) -> None:
    """Add `grad^T hidden` in float32, however the factors are kept.

    Rounding each chunk's product to bfloat16 before the sum would bias it.
    """
    if grad_cV.dtype == torch.float32:
        sum_VH.addmm_(grad_cV.T, hidden_cH)
    elif grad_cV.device.type == "cuda":
        sum_VH += torch.mm(grad_cV.T, hidden_cH, out_dtype=torch.float32)
    else:
        sum_VH.addmm_(grad_cV.T.float(), hidden_cH.float())
