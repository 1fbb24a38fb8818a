"""What is started first: the tasks whose completions are expected to be the longest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etude_rollout import lengths
from etude_rollout.lengths import LengthBook


def test_nothing_is_known_at_first_and_long_prompts_go_first() -> None:
    book = LengthBook()
    assert book.expect("a", 100) == 0.0
    assert book.longest_first([("a", 10), ("b", 300), ("c", 10)]) == [1, 0, 2]


def test_a_task_is_expected_to_take_what_it_took() -> None:
    book = LengthBook()
    book.learn("a", 100, [3, 40, 7])
    assert book.expect("a", 100) == 40.0
    book.learn("a", 100, [20])
    assert book.expect("a", 100) == 30.0
    book.learn("b", 100, [5])
    assert book.longest_first([("b", 900), ("a", 1)]) == [1, 0]


def test_a_new_task_is_expected_to_take_what_prompts_of_its_length_took() -> None:
    book = LengthBook()
    book.learn("short", 100, [10])
    book.learn("long", 5000, [400])
    assert book.expect("new", 120) == 10.0
    assert book.expect("other", 4100) == 400.0
    assert book.expect("huge", 10**6) == 400.0


def test_groups_without_a_completion_teach_nothing() -> None:
    book = LengthBook()
    book.learn("a", 100, [])
    book.learn("a", 100, [0, 0])
    assert book.expect("a", 100) == 0.0


def test_the_task_not_seen_for_longest_is_forgotten() -> None:
    book = LengthBook()
    for number in range(lengths.KEPT_TASKS + 1):
        book.learn(str(number), 1, [number + 1])
    assert book.expect("1", 1) == 2.0
    assert book.expect("0", 1) != 1.0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5000)), max_size=12))
def test_every_task_is_started_once(tasks: list[tuple[str, int]]) -> None:
    book = LengthBook()
    for number, (task, size) in enumerate(tasks[::2]):
        book.learn(task, size, [number])
    assert sorted(book.longest_first(tasks)) == list(range(len(tasks)))
