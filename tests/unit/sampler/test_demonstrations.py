"""Demonstrations: what may be one, BM25 and MMR, and whom a task gets (algorithms.md 4.2)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_sampler.curriculum.demonstrations import (
    BM25,
    Entry,
    GoldKind,
    Pool,
    Query,
    gold_kind,
    is_usable,
    jaccard,
    mmr,
    tokens,
)


def entry(
    ordinal: int, text: str, *, kind: GoldKind = GoldKind.ONE, thought: str = "so", prompt: str = ""
) -> Entry:
    """A right answer to the task of a number."""
    answer = f"<think> {thought} </think>\n<response> yes </response>"
    return Entry(ordinal, prompt or f"prompt {ordinal}", tuple(tokens(text)), kind, answer)


def query(text: str, *, kind: GoldKind = GoldKind.ONE, prompt: str = "mine") -> Query:
    """Task 99 asks."""
    return Query(99, prompt, tuple(tokens(text)), kind)


def test_mmr_example() -> None:
    """rel (1, .9, .6), sim(1,2) = .95, sim(1,3) = .2: 1, then 3 (.36 against .345)."""
    alike = {(0, 1): 0.95, (0, 2): 0.2, (1, 2): 0.0}
    relevance = np.array([1.0, 0.9, 0.6])

    def sim(first: int, second: int) -> float:
        return alike[min(first, second), max(first, second)]

    assert mmr(relevance, [0, 1, 2], sim, lam=0.7, num=2) == [0, 2]
    assert pytest.approx(0.345) == 0.7 * 0.9 - 0.3 * 0.95
    assert pytest.approx(0.36) == 0.7 * 0.6 - 0.3 * 0.2
    assert mmr(relevance, [0, 1, 2], sim, lam=1.0, num=2) == [0, 1]
    assert mmr(relevance, [0, 1, 2], sim, lam=0.7, num=9) == [0, 2, 1]
    assert mmr(relevance, [], sim, lam=0.7, num=2) == []
    assert mmr(np.ones(2), [1, 0], sim, lam=0.7, num=1) == [1], "ties go to the first"


def test_bm25_by_hand() -> None:
    """Three texts; the mean length is 2; every word of the query once."""
    index = BM25([["a", "b"], ["a", "a", "a"], ["c"]])
    idf_a = math.log(1 + (3 - 2 + 0.5) / 2.5)
    first = idf_a * 1 * 2.5 / (1 + 1.5)
    second = idf_a * 3 * 2.5 / (3 + 1.5 * (0.25 + 0.75 * 1.5))
    assert index.scores(["a"]).tolist() == pytest.approx([first, second, 0.0])
    idf_b = math.log(1 + (3 - 1 + 0.5) / 1.5)
    assert index.scores(["b", "a", "x"])[0] == pytest.approx(first + idf_b)
    assert index.scores(["c", "c"])[2] == pytest.approx(2 * index.scores(["c"])[2])
    assert BM25([]).scores(["a"]).tolist() == []
    assert BM25([[]]).scores(["a"]).tolist() == [0.0]


def test_words_and_sameness() -> None:
    assert tokens("Book a_flight, 2 Rome!") == ["book", "a_flight", "2", "rome"]
    rome, oslo = (
        frozenset(tokens("book a flight to rome")),
        frozenset(tokens("book a flight to oslo")),
    )
    assert jaccard(rome, oslo) == pytest.approx(4 / 6)
    assert jaccard(frozenset(), frozenset()) == 1.0


def test_what_is_usable() -> None:
    assert is_usable("<think> so </think>\n<tool_call>\n{}\n</tool_call>")
    assert not is_usable("<tool_call>\n{}\n</tool_call>"), "no thought"
    assert not is_usable("<think> then <tool_call> </think>\n<tool_call>\n{}\n</tool_call>")
    assert not is_usable("<think> then </tool_call> </think>")
    kinds = [gold_kind(num) for num in (0, 1, 2, 5)]
    assert kinds == [GoldKind.NONE, GoldKind.ONE, GoldKind.SEVERAL, GoldKind.SEVERAL]


def test_the_shortest_thought_of_a_task_stays() -> None:
    long, short = entry(1, "rome", thought="so it is"), entry(1, "rome", thought="so")
    for entries in ([long, short], [short, long]):
        assert Pool(entries, lam=0.7).choose(query("rome"), 2) == [short]


def test_neither_the_task_itself_nor_its_prompt() -> None:
    pool = Pool([entry(99, "rome"), entry(1, "rome", prompt="mine"), entry(2, "rome")], lam=0.7)
    assert len(pool) == 3
    assert [one.ordinal for one in pool.choose(query("rome"), 3)] == [2]


def test_the_same_kind_first_then_any() -> None:
    pool = Pool(
        [
            entry(1, "flight to rome", kind=GoldKind.NONE),
            entry(2, "weather in oslo"),
            entry(3, "flight to oslo", kind=GoldKind.SEVERAL),
        ],
        lam=0.7,
    )
    asked = query("flight to rome")
    assert [one.ordinal for one in pool.choose(asked, 1)] == [2]
    assert [one.ordinal for one in pool.choose(asked, 2)] == [2, 1]
    assert [one.ordinal for one in pool.choose(asked, 9)] == [2, 1, 3]
    assert Pool([], lam=0.7).choose(asked, 2) == []


def test_what_is_not_usable_is_shown_to_nobody() -> None:
    thoughtless = Entry(1, "prompt 1", ("rome",), GoldKind.ONE, "<response> yes </response>")
    pool = Pool([thoughtless, entry(2, "oslo")], lam=0.7)
    assert [one.ordinal for one in pool.choose(query("rome"), 2)] == [2]
    assert len(pool) == 1


def test_relevant_and_unlike_each_other() -> None:
    pool = Pool(
        [
            entry(1, "book a flight to rome"),
            entry(2, "book a flight to rome please"),
            entry(3, "today rome has a train"),
            entry(4, "cook rice"),
        ],
        lam=0.7,
    )
    chosen = [one.ordinal for one in pool.choose(query("book a flight to rome today"), 2)]
    assert chosen == [1, 3], ".7 x .69 - .3 x .25 against .7 x .91 - .3 x .83"


WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=6)


@given(st.lists(st.tuples(WORDS, st.sampled_from(list(GoldKind)))), WORDS, st.integers(0, 5))
def test_always_distinct_and_as_many_as_there_are(
    rows: list[tuple[list[str], GoldKind]], asked: list[str], num: int
) -> None:
    entries = [entry(i, " ".join(words), kind=kind) for i, (words, kind) in enumerate(rows)]
    chosen = Pool(entries, lam=0.7).choose(query(" ".join(asked)), num)
    assert len(chosen) == min(num, len(entries))
    assert len({one.ordinal for one in chosen}) == len(chosen)
    same = [one.kind is GoldKind.ONE for one in chosen]
    assert same == sorted(same, reverse=True)
