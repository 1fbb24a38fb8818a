"""Rows and micro-batches: nothing lost, nothing over the budget, prompts shared where it pays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etude_trainer.batch import TokenSequence
from etude_trainer.layout import Budget, Row, pack_rows, plan_group, shared_prefix


def sequence(tokens: list[int], num_prompt: int) -> TokenSequence:
    positions_T = np.arange(len(tokens))
    return TokenSequence(
        tokens_T=np.array(tokens, dtype=np.int32),
        trained_T=positions_T >= num_prompt,
        lp_rollout_T=np.zeros(len(tokens), dtype=np.float32),
    )


def budget(max_tokens: int = 4096, *, share: bool = True, pair_cost: float = 3e-4) -> Budget:
    return Budget(max_tokens=max_tokens, share_prompts=share, pair_cost=pair_cost)


def group(num_prompt: int, lengths: list[int]) -> list[tuple[int, TokenSequence]]:
    prompt = list(range(100, 100 + num_prompt))
    return [
        (index, sequence([*prompt, *range(index, index + length)], num_prompt))
        for index, length in enumerate(lengths)
    ]


def test_the_prefix_ends_where_training_begins() -> None:
    same = [sequence([1, 2, 3, 4], 2), sequence([1, 2, 3, 5], 3)]
    assert shared_prefix(same) == 2
    assert shared_prefix([sequence([1, 9, 3], 2), sequence([1, 2, 3], 2)]) == 1
    assert shared_prefix([sequence([7, 2], 1), sequence([1, 2], 1)]) == 0


def test_a_long_prompt_is_computed_once() -> None:
    rows = plan_group(group(700, [60] * 8), budget())
    assert rows == [Row(tuple(range(8)), num_shared=700, num_tokens=700 + 8 * 60)]


def test_long_completions_do_not_share() -> None:
    rows = plan_group(group(50, [2000] * 4), budget(16384))
    assert [len(row.sequences) for row in rows] == [1, 1, 1, 1]


def test_a_row_stays_inside_the_budget() -> None:
    rows = plan_group(group(100, [100] * 8), budget(450))
    assert [row.num_tokens for row in rows] == [400, 400, 300]


def test_switched_off_every_sequence_is_its_own_row() -> None:
    rows = plan_group(group(700, [60] * 3), budget(share=False))
    assert rows == [Row((j,), num_shared=0, num_tokens=760) for j in range(3)]


@given(
    num_prompt=st.integers(1, 60),
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    max_tokens=st.integers(64, 600),
    pair_cost=st.floats(0, 0.01),
)
def test_every_sequence_is_in_one_row_and_every_row_in_one_micro_batch(
    num_prompt: int, lengths: list[int], max_tokens: int, pair_cost: float
) -> None:
    limits = budget(max_tokens, pair_cost=pair_cost)
    members = group(num_prompt, lengths)
    rows = plan_group(members, limits)
    assert sorted(index for row in rows for index in row.sequences) == list(range(len(lengths)))
    for row in rows:
        own = sum(len(members[index][1].tokens_T) - row.num_shared for index in row.sequences)
        assert row.num_tokens == row.num_shared + own
        assert row.num_tokens <= max_tokens or len(row.sequences) == 1
    batches = pack_rows(rows, limits)
    assert sorted(row.sequences for batch in batches for row in batch) == sorted(
        row.sequences for row in rows
    )
    for batch in batches:
        padded = len(batch) * max(row.num_tokens for row in batch)
        assert padded <= max_tokens or len(batch) == 1
