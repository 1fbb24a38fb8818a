"""Shaping by length and difficulty: the specification's numbers, and what they never do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude_trainer.algorithms.shaping import (
    difficulty_factor,
    kimi_length,
    overlong,
    shortest_right,
)

LENGTHS = st.lists(st.integers(0, 5000), min_size=2, max_size=16)


def test_overlong_of_the_specification() -> None:
    long = overlong(torch.tensor([16384, 18432, 20480, 21000]), longest=20480, cache=4096)
    assert long.tolist() == [0.0, -0.5, -1.0, -1.0]
    short = overlong(torch.tensor([768, 896, 1024]), longest=1024, cache=256)
    assert short.tolist() == [0.0, -0.5, -1.0]


@pytest.mark.parametrize("cache", [0, 1025])
def test_a_cache_that_does_not_fit_is_refused(cache: int) -> None:
    with pytest.raises(ValueError, match="cache"):
        overlong(torch.tensor([1]), longest=1024, cache=cache)


def test_kimi_length_of_the_specification() -> None:
    lengths = torch.tensor([100, 200, 300])
    assert kimi_length(lengths, torch.tensor([True] * 3)).tolist() == [0.5, 0.0, -0.5]
    assert kimi_length(lengths, torch.tensor([False] * 3)).tolist() == [0.0, 0.0, -0.5]
    equal = kimi_length(torch.tensor([7, 7]), torch.tensor([True, False]))
    assert equal.tolist() == [0.0, 0.0]


def test_difficulty_weight_of_the_specification() -> None:
    factors = [difficulty_factor(m / 8) for m in range(5)]
    assert factors == pytest.approx([0.0, 0.7875, 1.35, 1.6875, 1.8])


def test_the_bonus_goes_to_the_shortest_right_one_only_if_there_is_one() -> None:
    lengths = torch.tensor([90, 300, 150, 150, 120])
    right = torch.tensor([True, True, True, True, False])
    assert shortest_right(lengths, right).tolist() == [0.0, 0.0, 0.2, 0.0, 0.0]
    assert shortest_right(lengths, torch.tensor([False] * 5)).tolist() == [0.0] * 5
    assert shortest_right(torch.tensor([100, 99]), torch.tensor([True] * 2)).tolist() == [0.0, 0.0]


@given(LENGTHS, st.data())
def test_bounds(lengths: list[int], data: st.DataObject) -> None:
    right = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    )
    length_G = torch.tensor(lengths)
    x_G = kimi_length(length_G, right)
    assert bool(((x_G >= -0.5) & (x_G <= 0.5)).all())
    assert bool((x_G[~right] <= 0.0).all()), "a wrong answer never gains by being short"
    over_G = overlong(length_G, longest=1024, cache=256)
    assert bool(((over_G >= -1.0) & (over_G <= 0.0)).all())
    assert float(shortest_right(length_G, right).sum()) in (0.0, pytest.approx(0.2))
