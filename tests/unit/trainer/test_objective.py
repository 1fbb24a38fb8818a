"""The objective and its aggregation against the numbers of algorithms.md, section 7."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from etude_trainer.algorithms.aggregation import Aggregation, token_weights
from etude_trainer.algorithms.objective import (
    ObjectiveSettings,
    TokenInputs,
    clipped_surrogate,
    kl_k3,
    sequence_ratio,
    token_losses,
    truncated_importance,
)

PLAIN = ObjectiveSettings(
    clip_low=0.2, clip_high=0.28, importance_cap=None, kl_beta=0.0, entropy_coef=0.0
)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("ratio", "advantage", "low", "high", "gain"),
    [
        (1.3, 1.0, 0.2, 0.28, 1.28),
        (1.3, -1.0, 0.2, 0.28, -1.3),
        (0.7, 1.0, 0.2, 0.28, 0.7),
        (0.7, -1.0, 0.2, 0.28, -0.8),
        (1.3, 1.0, 0.2, 0.2, 1.2),
        (1.3, 1.0, 0.2, 0.4, 1.3),
        (1.45, 1.0, 0.2, 0.4, 1.4),
    ],
)
def test_clipped_surrogate(
    ratio: float, advantage: float, low: float, high: float, gain: float
) -> None:
    loss = clipped_surrogate(vector(ratio), vector(advantage), clip_low=low, clip_high=high)
    assert -float(loss) == pytest.approx(gain, abs=1e-9)


def test_dual_clip_bounds_losses_of_negative_advantages_only() -> None:
    """A token that the old policy hardly gave: r = 5, c = 3."""
    options = {"clip_low": 0.2, "clip_high": 0.28}
    ratio, falls, rises = vector(5.0, 2.9, 0.5), vector(-1.0, -1.0, -1.0), vector(1.0, 1.0, 1.0)
    assert clipped_surrogate(ratio, falls, **options).tolist() == pytest.approx([5.0, 2.9, 0.8])
    bounded = clipped_surrogate(ratio, falls, **options, dual_clip=3.0)
    assert bounded.tolist() == pytest.approx([3.0, 2.9, 0.8])
    same = clipped_surrogate(ratio, rises, **options, dual_clip=3.0)
    assert same.tolist() == clipped_surrogate(ratio, rises, **options).tolist()


def test_the_ratio_of_a_sequence_is_that_of_its_mean() -> None:
    """The specification's numbers, with a second sequence in between."""
    lp_new = vector(0.1, 9.0, -0.2, 0.4).requires_grad_()
    ratio_N = sequence_ratio(lp_new, vector(0.0, 8.0, 0.0, 0.0), torch.tensor([7, 3, 7, 7]))
    assert ratio_N.tolist() == pytest.approx([1.1052, math.e, 1.1052, 1.1052], abs=5e-5)
    ratio_N[0].backward()
    assert lp_new.grad is not None
    assert lp_new.grad.tolist() == pytest.approx([0.36839, 0.0, 0.36839, 0.36839], abs=1e-5)
    tokens = (vector(0.1, -0.2, 0.4)).exp()
    assert tokens.tolist() == pytest.approx([1.1052, 0.8187, 1.4918], abs=5e-5)


def test_local_token_means() -> None:
    """Blocks of two sequences, by hand: (1 + 3) and (2) tokens."""
    weight_N = token_weights(
        torch.tensor([1, 3, 2]),
        torch.tensor([0, 0, 1]),
        aggregation="local_token_mean",
        max_tokens=4,
        local_sequences=2,
    )
    assert weight_N.tolist() == pytest.approx([1 / 8] * 4 + [1 / 4] * 2)
    whole = token_weights(
        torch.tensor([1, 3, 2]),
        torch.tensor([0, 0, 1]),
        aggregation="local_token_mean",
        max_tokens=4,
    )
    assert whole.tolist() == pytest.approx([1 / 6] * 6)


@pytest.mark.parametrize(
    ("aggregation", "want"),
    [("token_mean", 0.375), ("sequence_mean", 0.5833), ("dr_grpo", 0.1875)],
)
def test_aggregation(aggregation: Aggregation, want: float) -> None:
    one_group = torch.tensor([0, 0])
    weight_N = token_weights(torch.tensor([1, 3]), one_group, aggregation=aggregation, max_tokens=4)
    loss = (weight_N * vector(1.0, 0.0, 0.0, 0.5)).sum()
    assert float(loss) == pytest.approx(want, abs=5e-5)


@pytest.mark.parametrize(
    ("aggregation", "want"),
    [
        ("token_mean", [1 / 9] * 9),
        ("sequence_mean", [1 / 6, 1 / 6, 1 / 6, *[1 / 6] * 1, *[1 / 12] * 2, *[1 / 18] * 3]),
        ("dr_grpo", [1 / 8, 1 / 8, 1 / 8, *[1 / 24] * 6]),
    ],
)
def test_groups_of_unequal_size_weigh_equally_but_for_the_token_mean(
    aggregation: Aggregation, want: list[float]
) -> None:
    """C7: a group of one sequence of three tokens, and one of sequences of 1, 2 and 3."""
    lengths_S, groups_S = torch.tensor([3, 1, 2, 3]), torch.tensor([0, 1, 1, 1])
    weight_N = token_weights(lengths_S, groups_S, aggregation=aggregation, max_tokens=4)
    assert weight_N.tolist() == pytest.approx(want)
    if aggregation == "sequence_mean":
        assert float(weight_N[:3].sum()) == pytest.approx(float(weight_N[3:].sum()))


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "dr_grpo"])
def test_groups_of_one_size_weigh_as_their_sequences_do(aggregation: Aggregation) -> None:
    lengths_S = torch.tensor([1, 4, 2, 5])
    one, two = (
        token_weights(lengths_S, torch.tensor(groups), aggregation=aggregation, max_tokens=8)
        for groups in ([0, 0, 0, 0], [0, 0, 1, 1])
    )
    assert one.tolist() == two.tolist()


def test_a_sequence_without_trained_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one trained token"):
        token_weights(
            torch.tensor([1, 0]), torch.tensor([0, 0]), aggregation="sequence_mean", max_tokens=4
        )


@pytest.mark.parametrize(("d", "want"), [(0.1, 0.00517), (-0.1, 0.00484), (1.0, 0.71828)])
def test_k3(d: float, want: float) -> None:
    assert float(kl_k3(vector(d), vector(0.0))) == pytest.approx(want, abs=5e-6)


@pytest.mark.parametrize(("gap", "want"), [(-0.5, 0.6065), (0.0, 1.0), (0.5, 1.6487), (1.0, 2.0)])
def test_truncated_importance(gap: float, want: float) -> None:
    lp_rollout = vector(-1.0)
    assert float(truncated_importance(lp_rollout + gap, lp_rollout, cap=2.0)) == pytest.approx(
        want, abs=5e-5
    )


def test_importance_carries_no_gradient_and_survives_overflow() -> None:
    lp_old = vector(-1.0, 0.0).requires_grad_()
    weight = truncated_importance(lp_old, vector(-1.5, -800.0), cap=2.0)
    assert not weight.requires_grad
    assert weight.tolist() == pytest.approx([math.exp(0.5), 2.0])


def inputs(**changes: Tensor | None) -> TokenInputs:
    values: dict[str, Tensor | None] = {
        "lp_new_N": vector(-1.0, -2.0, -0.5),
        "lp_old_N": vector(-1.0, -2.0, -0.5),
        "lp_rollout_N": vector(-1.0, -2.0, -0.5),
        "advantage_N": vector(1.0, -1.0, 0.5),
        "sequence_N": torch.tensor([0, 0, 1]),
        **changes,
    }
    return TokenInputs(**values)  # type: ignore[arg-type]


def test_on_policy_the_gradient_is_the_advantage() -> None:
    lp_new_N = vector(-1.0, -2.0, -0.5).requires_grad_()
    losses = token_losses(inputs(lp_new_N=lp_new_N, lp_old_N=lp_new_N.detach()), PLAIN)
    losses.loss_N.sum().backward()
    assert lp_new_N.grad is not None
    assert lp_new_N.grad.tolist() == pytest.approx([-1.0, 1.0, -0.5])
    assert losses.ratio_N.tolist() == [1.0, 1.0, 1.0]


def test_clip_takes_the_gradient_away_and_is_counted() -> None:
    shift = vector(math.log(1.3), math.log(0.7), math.log(0.7))
    lp_new_N = (vector(-1.0, -2.0, -0.5) + shift).requires_grad_()
    losses = token_losses(inputs(lp_new_N=lp_new_N), PLAIN)
    losses.loss_N.sum().backward()
    assert lp_new_N.grad is not None
    assert lp_new_N.grad.tolist() == pytest.approx([0.0, 0.0, -0.35])
    assert losses.clipped_high_N.tolist() == [True, False, False]
    assert losses.clipped_low_N.tolist() == [False, True, False]


def test_what_the_dual_clip_cuts_is_counted_and_has_no_gradient() -> None:
    lp_new_N = (vector(-1.0, -2.0, -0.5) + math.log(5.0)).requires_grad_()
    losses = token_losses(inputs(lp_new_N=lp_new_N), replace(PLAIN, dual_clip=3.0))
    losses.loss_N.sum().backward()
    assert lp_new_N.grad is not None
    assert lp_new_N.grad.tolist() == [0.0, 0.0, 0.0]
    assert losses.dual_clipped_N.tolist() == [False, True, False]
    assert losses.loss_N.tolist() == pytest.approx([-1.28, 3.0, -0.64])


def test_a_sequence_is_clipped_as_a_whole() -> None:
    lp_new_N = (vector(-1.0, -2.0, -0.5) + vector(1.0, -0.9, 0.0)).requires_grad_()
    settings = replace(PLAIN, ratio="sequence", clip_low=3e-4, clip_high=4e-4)
    advantage_N = vector(1.0, 1.0, 0.5)
    losses = token_losses(inputs(lp_new_N=lp_new_N, advantage_N=advantage_N), settings)
    assert losses.clipped_high_N.tolist() == [True, True, False]
    assert losses.loss_N.tolist() == pytest.approx([-1.0004, -1.0004, -0.5])


def test_importance_weighs_the_surrogate_only() -> None:
    settings = ObjectiveSettings(
        clip_low=0.2, clip_high=0.2, importance_cap=2.0, kl_beta=0.5, entropy_coef=0.1
    )
    losses = token_losses(
        inputs(
            lp_rollout_N=vector(-2.0, -2.0, -0.5),
            lp_ref_N=vector(-0.9, -2.0, -0.5),
            entropy_N=vector(1.0, 2.0, 0.0),
        ),
        settings,
    )
    assert losses.importance_N.tolist() == pytest.approx([2.0, 1.0, 1.0])
    assert losses.capped_N.tolist() == [True, False, False]
    want = [-2.0 + 0.5 * (math.exp(0.1) - 1.1) - 0.1, 1.0 - 0.2, -0.5]
    assert losses.loss_N.tolist() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("missing", ["kl_beta", "entropy_coef"])
def test_terms_need_their_inputs(missing: str) -> None:
    settings = replace(PLAIN, **{missing: 0.1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the"):
        token_losses(inputs(), settings)
