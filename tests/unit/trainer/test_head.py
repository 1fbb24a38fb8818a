"""The chunked output layer against log-softmax: values, gradients, and what it never holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from etude_trainer.head import HeadOptions, linear_logprobs

COUNT, HIDDEN, VOCAB = 23, 16, 97


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden_nH = torch.randn(COUNT, HIDDEN, generator=generator)
    weight_VH = torch.randn(VOCAB, HIDDEN, generator=generator)
    target_n = torch.randint(0, VOCAB, (COUNT,), generator=generator)
    return hidden_nH, weight_VH, target_n


def plain(
    hidden_nH: Tensor, weight_VH: Tensor, target_n: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The same, all logits at once."""
    lp_nV = (hidden_nH @ weight_VH.T / temperature).log_softmax(dim=-1)
    return lp_nV.gather(1, target_n[:, None])[:, 0], -(lp_nV.exp() * lp_nV).sum(dim=-1)


def gradients(
    head: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], *, parts: str
) -> tuple[Tensor, ...]:
    """Values, and gradients of a weighted sum of `parts`: l(og-probabilities), e(ntropies)."""
    hidden_nH, weight_VH, target_n = inputs()
    hidden_nH.requires_grad_()
    weight_VH.requires_grad_()
    lp_n, entropy_n = head(hidden_nH, weight_VH, target_n)
    factor_2n = torch.linspace(-1.0, 1.5, 2 * COUNT).reshape(2, COUNT)
    terms = {"l": factor_2n[0] * lp_n, "e": factor_2n[1] * entropy_n}
    torch.stack([terms[part].sum() for part in parts]).sum().backward()
    assert hidden_nH.grad is not None
    assert weight_VH.grad is not None
    return lp_n.detach(), entropy_n.detach(), hidden_nH.grad, weight_VH.grad


@pytest.mark.parametrize("chunk", [1, 7, 22, 23, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("parts", ["l", "e", "le"])
def test_values_and_gradients_are_those_of_log_softmax(
    chunk: int, temperature: float, parts: str
) -> None:
    options = HeadOptions(temperature, chunk, torch.float32)
    found = gradients(lambda h, w, t: linear_logprobs(h, w, t, options), parts=parts)
    want = gradients(lambda h, w, t: plain(h, w, t, temperature), parts=parts)
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_what_learns_gets_a_gradient(frozen: str) -> None:
    hidden_nH, weight_VH, target_n = inputs()
    (weight_VH if frozen == "hidden" else hidden_nH).requires_grad_()
    options = HeadOptions(1.0, 5, torch.float32)
    lp_n, _ = linear_logprobs(hidden_nH, weight_VH, target_n, options)
    lp_n.sum().backward()
    assert (hidden_nH.grad is None) == (frozen == "hidden")
    assert (weight_VH.grad is None) == (frozen == "weight")


def test_bfloat16_products_are_close_and_the_gradient_is_float32() -> None:
    options = HeadOptions(1.0, 7, torch.bfloat16)
    found = gradients(lambda h, w, t: linear_logprobs(h, w, t, options), parts="le")
    want = gradients(lambda h, w, t: plain(h, w, t, 1.0), parts="le")
    for one, other in zip(found, want, strict=True):
        assert one.dtype == torch.float32
        gap = (one - other).abs().max() / other.abs().max()
        assert 0 < gap < 0.03


class _Widest(TorchDispatchMode):
    """Remembers the most rows of any tensor as wide as the vocabulary."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.ndim == 2 and made.shape[1] == VOCAB:
            self.rows = max(self.rows, len(made) if made.shape[0] != HIDDEN else 0)
        return made


@pytest.mark.parametrize("chunk", [4, 9])
def test_no_more_logits_than_a_chunk_exist_in_either_pass(chunk: int) -> None:
    options = HeadOptions(1.0, chunk, torch.float32)
    with _Widest() as widest:
        gradients(lambda h, w, t: linear_logprobs(h, w, t, options), parts="le")
    assert widest.rows == chunk
    with _Widest() as widest:
        gradients(lambda h, w, t: plain(h, w, t, 1.0), parts="le")
    assert widest.rows == COUNT


def test_no_tokens_are_no_work() -> None:
    hidden_nH, weight_VH, target_n = inputs()
    weight_VH.requires_grad_()
    options = HeadOptions(1.0, 4, torch.float32)
    lp_n, entropy_n = linear_logprobs(hidden_nH[:0], weight_VH, target_n[:0], options)
    assert len(lp_n) == len(entropy_n) == 0
    lp_n.sum().backward()
    assert weight_VH.grad is not None
    assert not weight_VH.grad.any()
