"""Rollouts of a lease's tasks as words, as fields of items, and as verdicts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_proto.v1 import GateVerdict
from etude_sampler.ports.allotments import Allotted, allotment_words, parse_allotments
from etude_sampler.service.allotting import held_back, item_fields


@given(
    st.dictionaries(
        st.integers(0, 2**31),
        st.builds(Allotted, st.integers(1, 1024), st.integers(0, 512), st.booleans()),
        max_size=30,
    )
)
def test_words_are_read_as_they_were_written(allotments: dict[int, Allotted]) -> None:
    found = parse_allotments(allotment_words(allotments))
    assert list(found.items()) == list(allotments.items())


@pytest.mark.parametrize("words", ["1 2 3", "1 2 3 x", "1 2 0 1 5"])
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match=r"four words|invalid literal"):
        parse_allotments(words)


@pytest.mark.parametrize(
    ("one", "fields"),
    [
        (Allotted(8), {"num_rollouts": 8}),
        (Allotted(24, 4), {"num_rollouts": 24, "screen": {"num_rollouts": 4}}),
        (Allotted(2, train=False), {"num_rollouts": 2, "train": False}),
    ],
)
def test_an_item_says_only_what_is_out_of_the_ordinary(
    one: Allotted, fields: dict[str, object]
) -> None:
    assert json.loads(b"{%b}" % item_fields(one)) == fields


@pytest.mark.parametrize(
    ("one", "num_outcomes", "verdict"),
    [
        (None, 4, None),
        (Allotted(8), 8, None),
        (Allotted(8), 2, None),
        (Allotted(24, 4), 4, GateVerdict.SCREENED),
        (Allotted(24, 4), 3, GateVerdict.SCREENED),
        (Allotted(24, 4), 5, None),
        (Allotted(24, 4), 24, None),
        (Allotted(2, train=False), 2, GateVerdict.PROBE),
        (Allotted(24, 4, train=False), 4, GateVerdict.PROBE),
    ],
)
def test_what_is_held_back_from_training(
    one: Allotted | None, num_outcomes: int, verdict: GateVerdict | None
) -> None:
    assert held_back(one, num_outcomes) is verdict
