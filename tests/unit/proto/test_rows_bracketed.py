"""Calls written as text: what is written is read again, and what is broken is said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from etude_proto.rows.bracketed import bracketed_calls, looks_like_calls
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
