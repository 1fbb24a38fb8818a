"""The sampled distribution and the draws from it (`engines/sampling.py`)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude_rollout.engines.sampling import draw_tokens, sampled_distribution

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12)


def distribution(
    logits: list[float], *, temperature: float = 1.0, top_p: float = 1.0
) -> torch.Tensor:
    return sampled_distribution(
        torch.tensor([logits]),
        temperature_B=torch.tensor([temperature]),
        top_p_B=torch.tensor([top_p]),
    )[0]


def test_temperature_divides_the_logits() -> None:
    logprobs = distribution([0.0, math.log(4.0)], temperature=2.0)
    assert logprobs.exp().tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-6)


def test_temperature_zero_tells_the_likelihood_at_one() -> None:
    logits = [0.0, math.log(4.0)]
    assert torch.equal(distribution(logits, temperature=0.0), distribution(logits))


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.4, [1.0, 0, 0, 0]),
        (0.49, [1.0, 0, 0, 0]),
        (0.51, [0.625, 0.375, 0, 0]),
        (0.95, [10 / 19, 6 / 19, 3 / 19, 0]),
        (1.0, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_the_nucleus_is_the_smallest_set_with_the_mass(top_p: float, expected: list[float]) -> None:
    logits = [math.log(p) for p in (0.5, 0.3, 0.15, 0.05)]
    assert distribution(logits, top_p=top_p).exp().tolist() == pytest.approx(expected, abs=1e-5)


def test_rows_have_their_own_temperature_and_nucleus() -> None:
    logits_BV = torch.tensor([[0.0, math.log(4.0)]] * 2)
    logprobs_BV = sampled_distribution(
        logits_BV, temperature_B=torch.tensor([1.0, 2.0]), top_p_B=torch.tensor([0.5, 1.0])
    )
    assert logprobs_BV[0].exp().tolist() == pytest.approx([0.0, 1.0])
    assert logprobs_BV[1].exp().tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-6)


@given(LOGITS, st.floats(0.1, 4.0), st.floats(0.05, 1.0))
def test_it_is_a_distribution(logits: list[float], temperature: float, top_p: float) -> None:
    probabilities = distribution(logits, temperature=temperature, top_p=top_p).exp()
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-4)
    assert int((probabilities > 0).sum()) >= 1


@given(LOGITS, st.floats(0.05, 1.0), st.floats(0.0, 1.0, exclude_max=True))
def test_what_has_no_probability_is_never_drawn(
    logits: list[float], top_p: float, uniform: float
) -> None:
    logprobs_BV = distribution(logits, top_p=top_p)[None]
    tokens_B, chosen_B = draw_tokens(
        logprobs_BV,
        uniforms_B=torch.tensor([uniform], dtype=torch.float64),
        is_greedy_B=torch.tensor([False]),
    )
    assert torch.isfinite(chosen_B).all()
    assert float(chosen_B[0]) == float(logprobs_BV[0, int(tokens_B[0])])


def test_draws_follow_the_distribution() -> None:
    probabilities = [0.5, 0.3, 0.0, 0.2]
    num = 10_000
    logprobs_BV = torch.tensor([probabilities]).log().expand(num, -1)
    tokens_B, _ = draw_tokens(
        logprobs_BV,
        uniforms_B=(torch.arange(num, dtype=torch.float64) + 0.5) / num,
        is_greedy_B=torch.zeros(num, dtype=torch.bool),
    )
    counts = torch.bincount(tokens_B, minlength=4) / num
    assert counts.tolist() == pytest.approx(probabilities, abs=2e-4)


def test_greedy_rows_take_the_most_likely_token() -> None:
    logprobs_BV = torch.tensor([[0.1, 0.6, 0.3]]).log().expand(2, -1)
    tokens_B, _ = draw_tokens(
        logprobs_BV,
        uniforms_B=torch.tensor([0.0, 0.0], dtype=torch.float64),
        is_greedy_B=torch.tensor([True, False]),
    )
    assert tokens_B.tolist() == [1, 0]
