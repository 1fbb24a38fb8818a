"""Calls written as text: what is written is read again, and what is broken is said."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.rows.bracketed import bracketed_calls, calls_or_words, looks_like_calls
from etude_proto.rows.stream import RowRefused

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_./ -]{0,8}[a-z]", fullmatch=True)
CALLS = st.lists(
    st.tuples(NAMES, st.dictionaries(st.from_regex(r"[a-z_-]{1,6}", fullmatch=True), VALUES)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40)
@given(CALLS, st.booleans())
def test_what_is_written_is_read(calls: list[tuple[str, dict[str, JsonValue]]], py: bool) -> None:
    """As JSON's literals and as Python's."""

    def written(value: JsonValue) -> str:
        return repr(value) if py else json.dumps(value)

    text = ", ".join(
        f"{name}({', '.join(f'{key}={written(value)}' for key, value in given.items())})"
        for name, given in calls
    )
    assert looks_like_calls(f"[{text}]")
    found = bracketed_calls(f" [ {text} ]\n")
    assert found == [{"name": name, "parameters": given} for name, given in calls]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("f(a=1)", "expected [name"),
        ("[f]", "no call of a tool"),
        ("[f(1)]", "expected key=value"),
        ("[f(a=1) g()]", "expected a comma after call 1"),
        ("[f(a=1]", "without its closing bracket"),
        ("[f(a='x)]", "a quote without its end"),
        ("[f(a=1, a=2)]", "a is given twice"),
        ("[f(a=b)]", "f: a is no value: 'b'"),
        ("[f(a=__import__('os'))]", "is no value"),
        ("[f(a={1, 2})]", "is no value"),
        ("[f(a=1e999)]", "is no value"),
        ("[f(a='\\ud800')]", "surrogate"),
        ("[f(a=" + "(" * 500 + ")" * 500 + ")]", "is no value"),
    ],
)
def test_what_is_broken_is_said(text: str, words: str) -> None:
    with pytest.raises(RowRefused) as refused:
        bracketed_calls(text)
    assert words in refused.value.detail


@pytest.mark.parametrize("text", ["", "[]", "[1, 2]", "[see f(1)] for more", "f(a=1)", "[a](b)"])
def test_words_are_no_calls(text: str) -> None:
    assert not looks_like_calls(text)


OFFERED = ["Get User's Posts", "weather[v2]", "f"]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[Get User's Posts(x=1)]", [("Get User's Posts", {"x": 1})]),
        ("[weather[v2] (x=1), f()]", [("weather[v2]", {"x": 1}), ("f", {})]),
        ("[other(x=1)]", [("other", {"x": 1})]),
        ("It is an f, or half (of one).", []),
        ("Is it [1]?", []),
    ],
)
def test_names_on_offer_are_read_first(text: str, calls: list[tuple[str, object]]) -> None:
    found = calls_or_words(text, OFFERED)
    assert [(one["name"], one["parameters"]) for one in found] == calls


@pytest.mark.parametrize("text", ["[f(x=1)].", "Sure. [f(x=1)]", "f(x=1)", "I call f (x=1)"])
def test_a_call_among_words_is_refused(text: str) -> None:
    with pytest.raises(RowRefused, match="it names 'f' with an opening bracket"):
        calls_or_words(text, OFFERED)


def test_a_long_text_is_soon_known_not_to_be_calls() -> None:
    text = "[" + "a(note) " * 20_000
    begun = time.perf_counter()
    assert not looks_like_calls(text)
    assert looks_like_calls(text + "]")
    assert not looks_like_calls("[a" * 50_000 + ")]")
    assert time.perf_counter() - begun < 0.2
