"""Decoupled advantages and token spans: the specification's numbers, and where gradients lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude_trainer.algorithms.components import component_advantages
from etude_trainer.algorithms.objective import ObjectiveSettings, TokenInputs, token_losses
from etude_trainer.batch import Group, TokenSequence
from etude_trainer.config import AdvantageConfig, ShapingConfig, parse_config
from etude_trainer.errors import ConfigError
from etude_trainer.stages.credit import batch_credit

NAMES = ("format", "tool_name", "param_name", "param_value")
DECOUPLED = AdvantageConfig(kind="decoupled", whiten=False)
NO_SHAPING = ShapingConfig()


def sequence(spans: list[int] | None, *, num_prompt: int = 2) -> TokenSequence:
    """A rollout with these sampled tokens."""
    num = num_prompt + (4 if spans is None else len(spans))
    trained_T = np.arange(num) >= num_prompt
    spans_T = None if spans is None else np.array([0] * num_prompt + spans, dtype=np.uint8)
    return TokenSequence(
        np.arange(num, dtype=np.int32), trained_T, np.zeros(num, np.float32), spans_T
    )


def group(
    q: dict[str, list[float]],
    *,
    spans: list[list[int] | None] | None = None,
    weights: dict[str, float] | None = None,
    shaping: list[float] | None = None,
) -> Group:
    """A group whose components are `q`, name -> one value a rollout."""
    num = len(next(iter(q.values())))
    components = tuple({name: values[j] for name, values in q.items()} for j in range(num))
    rule = tuple(sum(one.values()) for one in components)
    added = shaping or [0.0] * num
    return Group(
        task_id="task",
        lane="uniform",
        staleness=0,
        rewards_G=tuple(r + x for r, x in zip(rule, added, strict=True)),
        rule_rewards_G=rule,
        successes_G=tuple(all(v == 1.0 for v in one.values()) for one in components),
        components={},
        sequences=tuple(sequence(one) for one in (spans or [None] * num)),
        components_G=components,
        component_weights=weights or {},
    )


EXAMPLE = {
    "format": [1.0] * 4,
    "tool_name": [1.0, 1.0, 0.0, 0.0],
    "param_name": [1.0] * 4,
    "param_value": [1.0, 0.5, 0.0, 0.0],
}


def test_decoupled_advantages_of_the_specification() -> None:
    found = batch_credit([group(EXAMPLE)], DECOUPLED, NO_SHAPING)
    assert found.advantages_S.tolist() == pytest.approx(
        [2.1716, 1.1271, -1.6494, -1.6494], abs=5e-5
    )
    assert found.advantage_N is None


def test_equal_rewards_of_unequal_parts_teach_something() -> None:
    """(format 1, value .75) and (format 0, value 1): R = 3 and 3, and two components differ."""
    one = group({"format": [1.0, 0.0], "param_value": [0.75, 1.0]})
    reward_G = (3.0, 3.0)
    one = replace(one, rewards_G=reward_G, rule_rewards_G=reward_G)
    whole = batch_credit([one], AdvantageConfig(), NO_SHAPING).advantages_S
    assert whole.tolist() == [0.0, 0.0]
    weighted = replace(one, component_weights={"format": 2.0, "param_value": 1.0})
    parts = batch_credit([weighted], DECOUPLED, NO_SHAPING).advantages_S
    half = 2**-0.5
    assert parts.tolist() == pytest.approx([half, -half], abs=1e-4)


def test_weights_are_those_of_each_groups_lease() -> None:
    plain, heavy = group(EXAMPLE), group(EXAMPLE, weights={"tool_name": 3.0, "param_value": 0.0})
    found = batch_credit([plain, heavy], DECOUPLED, NO_SHAPING).advantages_S
    assert found[:4].tolist() == pytest.approx([2.1716, 1.1271, -1.6494, -1.6494], abs=5e-5)
    name = 0.5 / (1 / 3) ** 0.5
    assert found[4:].tolist() == pytest.approx([3 * name, 3 * name, -3 * name, -3 * name], abs=1e-4)


def test_decoupled_batches_are_whitened_unless_told_otherwise() -> None:
    assert AdvantageConfig(kind="decoupled").whitens
    assert not AdvantageConfig().whitens
    groups = [group(EXAMPLE), group({"format": [1.0, 0.0, 0.0]})]
    found = batch_credit(groups, AdvantageConfig(kind="decoupled"), NO_SHAPING).advantages_S
    assert float(found.mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(found.std()) == pytest.approx(1.0, abs=1e-5)


def test_a_bonus_comes_on_top_at_its_own_size() -> None:
    """A bonus of .01 in a group that is else alike must not be blown up."""
    found = batch_credit(
        [group({"format": [1.0] * 4}, shaping=[0.01, 0.0, 0.0, 0.0])], DECOUPLED, NO_SHAPING
    )
    assert found.advantages_S.tolist() == pytest.approx([0.0075, -0.0025, -0.0025, -0.0025])


SPANS: list[list[int] | None] = [[1, 0, 2, 3, 4, 4], [1, 0, 2, 3, 4], [0, 2], [1, 4]]
BY_SPANS = AdvantageConfig(kind="decoupled", credit="spans")


def test_each_part_goes_to_its_tokens_and_the_sum_to_the_thought() -> None:
    one = group(EXAMPLE, spans=SPANS)
    whole = batch_credit([one], AdvantageConfig(kind="decoupled"), NO_SHAPING).advantages_S
    found = batch_credit([one], BY_SPANS, NO_SHAPING)
    raw = batch_credit([one], DECOUPLED, NO_SHAPING).advantages_S
    scale = 1.0 / (float(raw.std()) + 1e-6)
    q_GK = torch.tensor([EXAMPLE[name] for name in NAMES]).T
    parts = component_advantages(q_GK, torch.ones(4)) * scale
    wanted = []
    for j, spans in enumerate(SPANS):
        assert spans is not None
        wanted += [float(whole[j]) if p == 0 else float(parts[j, p - 1]) for p in spans]
    assert found.advantage_N is not None
    assert found.advantage_N.tolist() == pytest.approx(wanted)
    assert found.num_without_spans == 0
    # Of the first rollout: nothing for tags and parameter names, which all had right.
    assert found.advantage_N[:6].tolist()[0] == found.advantage_N[:6].tolist()[3] == 0.0


def test_cargo_without_spans_gets_the_sum_and_is_counted() -> None:
    found = batch_credit([group(EXAMPLE, spans=[None, *SPANS[1:]])], BY_SPANS, NO_SHAPING)
    assert found.advantage_N is not None
    assert found.advantage_N[:4].tolist() == [float(found.advantages_S[0])] * 4
    assert found.num_without_spans == 1


def test_one_alone_and_none_at_all() -> None:
    assert batch_credit([], BY_SPANS, NO_SHAPING).advantage_N is None
    only = replace(group({"format": [1.0, 0.0]}), sequences=(sequence([1, 0]), None))
    found = batch_credit([only], BY_SPANS, NO_SHAPING)
    assert found.advantage_N is not None
    assert found.advantage_N.tolist() == [0.0, 0.0]


def test_the_gradient_lies_on_the_tokens_that_earned_it() -> None:
    """Central differences of the loss, token by token, against the advantages."""
    found = batch_credit([group(EXAMPLE, spans=SPANS)], BY_SPANS, NO_SHAPING)
    assert found.advantage_N is not None
    advantage_N = found.advantage_N
    num = len(advantage_N)
    lp_old_N = torch.linspace(-2.0, -0.1, num, dtype=torch.float64)
    settings = ObjectiveSettings(0.2, 0.2, None, 0.0, 0.0)

    def loss(lp_new_N: torch.Tensor) -> torch.Tensor:
        inputs = TokenInputs(lp_new_N, lp_old_N, lp_old_N, advantage_N, torch.zeros(num))
        return token_losses(inputs, settings).loss_N.sum()

    lp_new_N = lp_old_N.clone().requires_grad_()
    (gradient_N,) = torch.autograd.grad(loss(lp_new_N), lp_new_N)
    step = 1e-5
    for n in range(num):
        moved = torch.zeros(num, dtype=torch.float64)
        moved[n] = step
        slope = float(loss(lp_old_N + moved) - loss(lp_old_N - moved)) / (2 * step)
        assert float(gradient_N[n]) == pytest.approx(slope, abs=1e-6)
        assert slope == pytest.approx(-float(advantage_N[n]), abs=1e-4)


def test_shaping_reaches_the_advantage() -> None:
    lengths = ShapingConfig(overlong_tokens=6, overlong_cache=4, length_weight=1.0)
    alike = group({"format": [1.0, 1.0]}, spans=[[0] * 4, [0] * 6])
    found = batch_credit([alike], AdvantageConfig(kind="dr_grpo"), lengths).advantages_S
    # overlong -.5 and -1, length +.5 and -.5
    assert found.tolist() == pytest.approx([0.75, -0.75])
    mixed = group({"format": [1.0, 0.0, 0.0, 0.0]}, spans=[[0] * 101, [0], [0], [0]])
    plain = batch_credit([mixed], AdvantageConfig(kind="dr_grpo"), NO_SHAPING).advantages_S
    weighed = batch_credit(
        [mixed], AdvantageConfig(kind="dr_grpo"), ShapingConfig(difficulty_weight=True)
    ).advantages_S
    bonus = torch.tensor([0.15, -0.05, -0.05, -0.05], dtype=torch.float64)
    assert weighed.tolist() == pytest.approx((1.35 * (plain + bonus)).tolist())


@given(
    st.integers(2, 8).flatmap(
        lambda g: st.lists(
            st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=g, max_size=g),
            min_size=1,
            max_size=4,
        )
    ),
    st.lists(st.floats(0.0, 4.0), min_size=4, max_size=4),
)
def test_parts_are_centred_bounded_and_linear_in_the_weights(
    columns: list[list[float]], weights: list[float]
) -> None:
    q_GK = torch.tensor(columns, dtype=torch.float64).T
    weights_K = torch.tensor(weights[: len(columns)], dtype=torch.float64)
    parts = component_advantages(q_GK, weights_K)
    assert parts.isfinite().all()
    assert parts.sum(dim=0).abs().max() < 1e-9
    assert bool((parts.abs() <= weights_K * len(q_GK) ** 0.5 + 1e-9).all())
    ones = component_advantages(q_GK, torch.ones_like(weights_K))
    assert torch.allclose(parts, ones * weights_K)


def test_a_component_that_some_rollouts_lack_is_compared_among_the_others() -> None:
    nan = float("nan")
    parts = component_advantages(torch.tensor([[1.0], [0.0], [nan]]), torch.ones(1))
    half = 2**-0.5
    assert parts[:, 0].tolist() == pytest.approx([half, -half, 0.0], abs=1e-5)
    assert component_advantages(torch.tensor([[nan], [nan]]), torch.ones(1)).tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("q", "w"),
    [([[1.0, 0.0]], [1.0]), ([1.0], [1.0]), ([[float("inf")]], [1.0]), ([[1.0]], [-1.0])],
)
def test_what_does_not_fit_is_refused(q: object, w: object) -> None:
    with pytest.raises(ValueError, match=r"components"):
        component_advantages(torch.tensor(q), torch.tensor(w))


@pytest.mark.parametrize(
    "text",
    [
        '[advantage]\nkind = "grpo"\ncredit = "spans"',
        '[advantage]\nkind = "decoupled"\nstd_floor = 0.1',
        '[advantage]\nkind = "decoupled"\ncredit = "spans"\nwhiten = false',
        "[shaping]\noverlong_tokens = 100\noverlong_cache = 200",
    ],
)
def test_settings_that_contradict_each_other_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)
