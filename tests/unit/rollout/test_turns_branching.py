"""ARPO's rule: entropies and probabilities, with the examples of the specification."""

from __future__ import annotations

import math

import pytest

from etude_rollout.turns.branching import NUM_TOKENS, branch_probability, chance, entropy


@pytest.mark.parametrize(
    ("rise", "probability"), [(-3, 0.0), (-1, 0.3), (0, 0.5), (1, 0.7), (2.5, 1.0), (9, 1.0)]
)
def test_examples(rise: float, probability: float) -> None:
    assert branch_probability(rise, weight=0.2) == pytest.approx(probability)


def test_a_uniform_choice_among_ten_of_a_vocabulary_of_ten_is_the_largest() -> None:
    row = [math.log(0.1)] * 10
    assert entropy([row] * 3, vocab_size=10) == pytest.approx(1.0)
    assert entropy([row] * 3, vocab_size=1000) == pytest.approx(1 / 3)


def test_only_the_ten_most_likely_of_the_first_twenty_tokens_count() -> None:
    sure, torn = [0.0, -math.inf], [math.log(0.5)] * 2
    assert entropy([sure] * NUM_TOKENS + [torn] * 50, vocab_size=4) == pytest.approx(0.0)
    wide = [math.log(0.05)] * 20
    assert entropy([wide], vocab_size=20) == pytest.approx(
        -10 * 0.05 * math.log(0.05) / math.log(20)
    )
    # A mean, not a sum: twice as many tokens are not twice as uncertain.
    assert entropy([torn], vocab_size=4) == pytest.approx(entropy([torn] * 2, vocab_size=4) or -1)


def test_nothing_said_has_no_entropy() -> None:
    assert entropy([], vocab_size=100) is None
    assert entropy([[0.0]], vocab_size=0) is None


def test_chances_are_uniform_repeatable_and_apart() -> None:
    drawn = [chance(7, chain, turn) for chain in range(40) for turn in range(25)]
    assert len(set(drawn)) == len(drawn)
    assert all(0.0 <= one < 1.0 for one in drawn)
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.03)
    assert chance(7, 1, 2) == chance(7, 1, 2) != chance(8, 1, 2)
