"""Properties of scoring over generated golds and completions, and of the matching itself."""

from __future__ import annotations

import json
import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_rollout.rewards import (
    MODES,
    SWITCHES,
    Gold,
    Mode,
    RewardConfig,
    Scored,
    active_subtasks,
    gold_from_task,
    score_completion,
    weighted_reward,
)
from etude_rollout.rewards.matching import best_assignment
from etude_rollout.rewards.values import json_equal, python_equal

NAMES = st.sampled_from(["f", "g", "h"])
KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, "", "1", "x"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
CALLS = st.fixed_dictionaries(
    {"name": NAMES, "parameters": st.dictionaries(KEYS, VALUES, max_size=3)}
)
ODD_CALLS = CALLS | VALUES | st.fixed_dictionaries({"name": NAMES | VALUES, "parameters": VALUES})
ALLOWED = st.lists(VALUES, min_size=1, max_size=3)
BFCL_CALLS = st.builds(
    lambda name, arguments: {name: arguments}, NAMES, st.dictionaries(KEYS, ALLOWED, max_size=3)
)
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>"]
PIECES = st.sampled_from([*TAGS, "\n", " ", "x", "{", '{"name": "f", "parameters": {}}'])
SWITCH_SETS = st.sets(st.sampled_from(SWITCHES)).map(tuple)
WEIGHTS = st.dictionaries(
    st.sampled_from(["format", "tool_name", "param_name", "param_value", "other"]),
    st.floats(0.5, 2),
)


def wrap(lines: list[str], *, response: bool = False) -> str:
    text = "<think>x</think>"
    if lines:
        text += "\n<tool_call>\n" + "\n".join(lines) + "\n</tool_call>"
    return text + "\n<response>y</response>" if response else text


REFERENCES = st.one_of(
    st.just({"kind": "response"}),
    st.builds(
        lambda calls, response: {"kind": "calls", "calls": calls, "response": response},
        st.lists(CALLS, min_size=1, max_size=4),
        st.booleans(),
    ),
    st.builds(
        lambda calls, response: {
            "kind": "toolrl",
            "text": wrap([json.dumps(call) for call in calls], response=response),
        },
        st.lists(CALLS, max_size=4),
        st.booleans(),
    ),
    st.builds(
        lambda calls: {"kind": "bfcl", "calls": calls},
        st.lists(BFCL_CALLS, min_size=1, max_size=3),
    ),
)
COMPLETIONS = st.one_of(
    st.text(max_size=40),
    st.lists(PIECES, max_size=12).map("".join),
    st.builds(
        lambda calls, response: wrap([json.dumps(call) for call in calls], response=response),
        st.lists(CALLS, max_size=5) | st.lists(ODD_CALLS, max_size=3),
        st.booleans(),
    ),
    st.builds(wrap, st.lists(st.text(max_size=10), max_size=3)),
)


def score(completion: str, gold: Gold, mode: Mode, *switches: str, step: int = 0) -> Scored:
    config = RewardConfig(mode=mode, switches=switches)
    return score_completion(completion, gold, config=config, step=step)


@given(COMPLETIONS, REFERENCES, st.sampled_from(MODES), SWITCH_SETS, st.integers(0, 400))
def test_every_completion_is_scored_within_bounds(
    completion: str, reference: dict[str, Any], mode: Mode, switches: tuple[str, ...], step: int
) -> None:
    gold = gold_from_task(reference)
    scored = score(completion, gold, mode, *switches, step=step)
    bounds = RewardConfig(mode=mode, switches=switches).bounds(step)
    assert tuple(scored.components) == active_subtasks(gold)
    assert all(0.0 <= value <= 1.0 for value in scored.components.values())
    assert scored.success == all(value == 1.0 for value in scored.components.values())
    assert scored.format in (bounds.format_min, bounds.format_max)
    if scored.num_gold_calls:
        # Sorted: with CORRECTMAX1 and SCHEDULEREWARD, ToolRL's bounds cross at step 300.
        low, high = sorted((bounds.correctness_min, bounds.correctness_max))
        assert low - 1e-9 <= scored.correctness <= high + 1e-9
    else:
        assert scored.correctness == 0
    assert 0 <= scored.length <= 1
    assert scored.total == scored.format + scored.correctness + scored.length


@given(COMPLETIONS, REFERENCES, st.sampled_from(MODES))
def test_the_default_total_is_the_weighted_reward_of_ones(
    completion: str, reference: dict[str, Any], mode: Mode
) -> None:
    scored = score(completion, gold_from_task(reference), mode)
    reward = weighted_reward(scored.components, n=scored.num_gold_calls, k=scored.num_gold_params)
    assert reward == pytest.approx(scored.total, abs=1e-9)
    if scored.success:
        assert scored.total == (4 if scored.num_gold_calls else 1)


@pytest.mark.no_cover
@given(COMPLETIONS, REFERENCES, WEIGHTS)
def test_weights_move_the_reward_and_nothing_else(
    completion: str, reference: dict[str, Any], weights: dict[str, float]
) -> None:
    gold = gold_from_task(reference)
    plain = score(completion, gold, "robust")
    weighed = score_completion(completion, gold, config=RewardConfig(), component_weights=weights)
    assert weighed.components == plain.components
    assert weighed.success == plain.success
    expected = weighted_reward(
        plain.components, n=plain.num_gold_calls, k=plain.num_gold_params, weights=weights
    )
    assert weighed.total == pytest.approx(expected, abs=1e-9)


@given(
    st.lists(CALLS, max_size=5), st.booleans(), st.sampled_from(MODES), SWITCH_SETS, st.integers(0)
)
def test_gold_scores_the_maximum_against_itself(
    calls: list[dict[str, object]],
    response: bool,
    mode: Mode,
    switches: tuple[str, ...],
    step: int,
) -> None:
    text = wrap([json.dumps(call) for call in calls], response=response)
    gold = gold_from_task({"kind": "toolrl", "text": text})
    scored = score(text, gold, mode, *switches, step=step)
    bounds = RewardConfig(mode=mode, switches=switches).bounds(step)
    assert scored.success
    assert scored.format == bounds.format_max
    assert scored.correctness == (bounds.correctness_max if calls else 0)


@given(st.lists(CALLS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_of_calls_does_not_matter(calls: list[dict[str, object]], rng: random.Random) -> None:
    gold = gold_from_task({"kind": "calls", "calls": calls})
    lines = [json.dumps(call) for call in calls]
    for mode in MODES:
        assert score(wrap(rng.sample(lines, len(lines))), gold, mode).total == pytest.approx(4)


@given(st.lists(CALLS, min_size=1, max_size=4), st.lists(CALLS, min_size=1, max_size=5))
def test_robust_matching_is_never_below_greedy(
    calls: list[dict[str, object]], predicted: list[dict[str, object]]
) -> None:
    # Without true and false, whose equality differs between the modes.
    calls, predicted = json.loads(
        json.dumps([calls, predicted]).replace("true", "7").replace("false", "8")
    )
    gold = gold_from_task({"kind": "calls", "calls": calls})
    text = wrap([json.dumps(call) for call in predicted])
    assert score(text, gold, "robust").total >= score(text, gold, "parity").total - 1e-6


@given(VALUES, VALUES)
def test_equalities(left: object, right: object) -> None:
    for equal in (json_equal, python_equal):
        assert equal(left, left)
        assert equal(left, right) == equal(right, left)
    if json_equal(left, right):
        assert python_equal(left, right)


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(
                st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 3.5]), min_size=width, max_size=width
            ),
            min_size=1,
            max_size=5,
        )
    )
)
def test_best_assignment_against_all_assignments(gains: list[list[float]]) -> None:
    chosen = best_assignment(gains)
    taken = [column for column in chosen if column is not None]
    num_rows, num_columns = len(gains), len(gains[0])
    assert len(taken) == len(set(taken)) == min(num_rows, num_columns)
    total = sum(row[at] for row, at in zip(gains, chosen, strict=True) if at is not None)
    padded = [*range(num_columns), *[num_columns] * max(0, num_rows - num_columns)]
    best = max(
        sum(row[at] for row, at in zip(gains, order, strict=False) if at < num_columns)
        for order in permutations(padded, num_rows)
    )
    assert total == pytest.approx(best)


def test_many_calls_are_scored_in_reasonable_time() -> None:
    calls = [{"name": "f", "parameters": {"a": number}} for number in range(300)]
    gold = gold_from_task({"kind": "calls", "calls": calls[:12]})
    text = wrap([json.dumps(call) for call in reversed(calls)])
    assert score(text, gold, "robust").components["param_value"] == 1
    hostile = "<think></think>" + "</think>\n<tool_call>\n" * 20_000
    for mode in MODES:
        assert score(hostile, gold, mode).total == -3
