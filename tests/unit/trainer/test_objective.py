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
