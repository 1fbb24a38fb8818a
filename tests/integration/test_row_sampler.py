"""Rows of a trainer's data against a real sampler: held, given back, resumed within an epoch."""

from __future__ import annotations

import pytest

from etude_client.adapters.sampler import RowSampler
from etude_client.curriculum import Curriculum, NothingToPractise
from support.trainer_rows import PROMPTS

TASKS = [
    {"messages": [{"role": "user", "content": prompt}], "subtasks": ["answer"]}
    for prompt in PROMPTS
]


def test_rows_are_held_until_they_are_reported(sampler_url: str) -> None:
    with Curriculum.create("mine", TASKS, sampler_url, group_size=2) as curriculum:
        sampler = RowSampler(
            curriculum, num_rows=len(PROMPTS), batch_size=5, timeout_s=0.5, saves=lambda: False
        )
        assert len(sampler) == 20
        rows = list(sampler)
        assert sorted(sampler.held) == sorted(set(rows))
        assert len(set(rows)) == 20
        with pytest.raises(KeyError, match="was not drawn, or was reported already"):
            sampler.report({next(row for row in range(24) if row not in rows): [1.0, 0.0]})
        sampler.report({row: [1.0, 0.0] for row in rows[:7]})
        assert sampler.give_back(keep=rows[15:16]) == 8
        assert sorted(sampler.held) == sorted(rows[15:])
        sampler.draw(24)
        with pytest.raises(NothingToPractise, match="holds 24 rows that it has not reported"):
            sampler.draw(1)
        with pytest.raises(ValueError, match="saved without a curriculum"):
            sampler.load_state_dict(sampler.state_dict())
        assert curriculum.flush(30)
        assert curriculum.view().num_groups_applied == 7


def test_a_batch_that_is_expected_is_one_lease(sampler_url: str) -> None:
    with Curriculum.create("mine", TASKS, sampler_url, group_size=2) as curriculum:
        sampler = RowSampler(curriculum, num_rows=len(PROMPTS), batch_size=4, chunk=1)
        rows = iter(sampler)
        for expected, num_taken, num_leases in ((6, 8, 3), (16, 16, 4)):
            sampler.expect(expected)
            for _ in range(num_taken):
                next(rows)
            assert curriculum.view().counts.num_prompt_leases == num_leases
        assert next(rows, None) is None
        sampler.give_back()
        assert curriculum.view().counts.num_prompt_leases == 0


@pytest.mark.parametrize(("starts_anew", "count"), [(False, 0), (True, 20)])
def test_an_epoch_goes_on_where_it_was_saved(
    sampler_url: str, *, starts_anew: bool, count: int
) -> None:
    with Curriculum.create("mine", TASKS, sampler_url, group_size=2) as curriculum:

        def made() -> RowSampler:
            return RowSampler(
                curriculum, num_rows=len(PROMPTS), batch_size=5, starts_anew=starts_anew
            )

        first = made()
        rows = iter(first)
        given = [next(rows) for _ in range(10)]
        first.report({row: [1.0, 0.0] for row in given})
        middle = first.state_dict()
        given += rows
        first.report({row: [1.0, 0.0] for row in given[10:]})
        again = made()
        again.load_state_dict(middle)
        assert len(list(again)) == 10
        again.load_state_dict({**middle, "num_given": 20})
        assert len(list(again)) == count
        again.give_back()
        assert len(list(again)) == 20
