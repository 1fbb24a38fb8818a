"""Spans: every part of a call under its component, tokens by most of their text, no guesses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from etude_proto.tensors import GroupTrajectories
from etude_proto.v1 import CreditSpec, PromptBatch
from etude_rollout.models.tiny import make_tokenizer
from etude_rollout.spans import (
    FORMAT,
    PARAM_NAME,
    PARAM_VALUE,
    TOOL_NAME,
    Decode,
    Marker,
    decoder,
    reward_weights,
    text_spans,
    token_ends,
    token_spans,
)
from support.contract import example

CALL = (
    "<think> the name is taxi </think>\n<tool_call>\n"
    '{"name": "taxi", "parameters": {"city": "Oslo", "count": 3}}\n</tool_call>'
)


def parts(text: str) -> list[tuple[int, str]]:
    """Runs of characters of one component other than none."""
    spans = text_spans(text)
    found: list[tuple[int, str]] = []
    previous = 0
    for character, component in zip(text, spans.tolist(), strict=True):
        if component and component == previous:
            found[-1] = (component, found[-1][1] + character)
        elif component:
            found.append((component, character))
        previous = component
    return found


def test_every_part_of_a_call_has_its_component() -> None:
    assert parts(CALL) == [
        (FORMAT, "<think>"),
        (FORMAT, "</think>"),
        (FORMAT, "<tool_call>"),
        (TOOL_NAME, '"taxi"'),
        (PARAM_NAME, '"city"'),
        (PARAM_VALUE, '"Oslo"'),
        (PARAM_NAME, '"count"'),
        (PARAM_VALUE, "3"),
        (FORMAT, "</tool_call>"),
    ]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"name":"a","parameters":{}}', [(TOOL_NAME, '"a"')]),
        ('{"parameters": {"k": [1, {"x": "}"}]}, "name": "a\\"b"}',
         [(PARAM_NAME, '"k"'), (PARAM_VALUE, '[1, {"x": "}"}]'), (TOOL_NAME, '"a\\"b"')]),
        ('  { "name" : null , "parameters" : 3 }', [(TOOL_NAME, "null")]),
        ('{"other": {"name": "x"}}', []),
        ('{"name": "a"', []),
        ('["name"]', []),
        ('{"name": "a"} trailing', []),
        ("{}", []),
        ("", []),
        ("[" * 100_000, []),
    ],
)  # fmt: skip
def test_lines(line: str, wanted: list[tuple[int, str]]) -> None:
    tags = [(FORMAT, "<tool_call>"), (FORMAT, "</tool_call>")]
    found = parts(f"<tool_call>\n{line}\n</tool_call>")
    assert found == [tags[0], *wanted, tags[1]]


def test_several_calls_and_a_block_that_does_not_end() -> None:
    lines = ['{"name": "a"}', '{"name": "b", "parameters": {"k": true}}']
    text = "<tool_call>\n" + "\n".join(lines)
    assert parts(text) == [
        (FORMAT, "<tool_call>"),
        (TOOL_NAME, '"a"'),
        (TOOL_NAME, '"b"'),
        (PARAM_NAME, '"k"'),
        (PARAM_VALUE, "true"),
    ]


def test_a_call_that_is_named_in_the_thought_is_no_call() -> None:
    thought = '<think> <tool_call>{"name": "a"}</tool_call> </think>\n<response> no </response>'
    assert {component for component, _ in parts(thought)} == {FORMAT}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(),
    st.dictionaries(st.text(min_size=1), VALUES, max_size=4),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_what_is_marked_is_what_was_written(
    name: str, parameters: dict[str, object], separator: int | None, plain: bool
) -> None:
    """Whatever the names and values: the marked text, read as JSON, gives them back."""
    gap = (", ", ": ") if separator is None else (",", ":")
    call = {"name": name, "parameters": parameters}
    line = json.dumps(call, ensure_ascii=plain, separators=gap)
    spans = text_spans(f"<tool_call>\n{line}")[len("<tool_call>\n") :]
    tags = [tag for tag in ("<think>", "</think>", "<tool_call>", "</tool_call>") if tag in line]
    if tags or "<response>" in line or "</response>" in line or "\n" in line:
        return
    texts: dict[int, list[str]] = {TOOL_NAME: [], PARAM_NAME: [], PARAM_VALUE: []}
    at = 0
    while at < len(line):
        end = at
        while end < len(line) and spans[end] == spans[at]:
            end += 1
        if spans[at]:
            texts[int(spans[at])].append(line[at:end])
        at = end
    assert [json.loads(text) for text in texts[TOOL_NAME]] == [name]
    assert [json.loads(text) for text in texts[PARAM_NAME]] == list(parameters)
    assert [json.loads(text) for text in texts[PARAM_VALUE]] == list(parameters.values())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The tiny policy's byte-level tokenizer."""
    home = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(Path(home))
    return AutoTokenizer.from_pretrained(home)


def ids_of(tokenizer: object, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    "text", [CALL, "Grüße, 東京 🚕!", "", "🚕" * 40], ids=["call", "wide", "empty", "taxis"]
)
def test_tokens_end_where_their_text_ends(tokenizer: object, text: str) -> None:
    decode = decoder(tokenizer)
    ids = ids_of(tokenizer, text)
    assert decode(ids) == text
    ends = token_ends(ids, decode)
    assert ends == [len(decode(ids[: n + 1]).rstrip("\ufffd")) for n in range(len(ids))]


def test_tokens_belong_to_most_of_their_text(tokenizer: object) -> None:
    decode = decoder(tokenizer)
    ids = [*ids_of(tokenizer, CALL), 2]  # the end of the turn has no text
    spans = token_spans(ids, decode)
    assert spans[-1] == 0
    told = {
        component: "".join(decode([t]) for t, s in zip(ids, spans, strict=True) if s == component)
        for component in (FORMAT, TOOL_NAME, PARAM_NAME, PARAM_VALUE)
    }
    assert told[FORMAT] == "<think></think><tool_call></tool_call>"
    assert "taxi" in told[TOOL_NAME]
    assert "city" in told[PARAM_NAME]
    assert "Oslo" in told[PARAM_VALUE]
    assert "Oslo" not in told[PARAM_NAME] + told[TOOL_NAME]


def test_what_was_prefilled_counts_as_said(tokenizer: object) -> None:
    decode = decoder(tokenizer)
    prefill, rest = CALL[:40], CALL[40:]
    ids = ids_of(tokenizer, rest)
    assert token_spans(ids, decode, prefill=prefill).tolist()[-1] == FORMAT
    bare = token_spans(ids_of(tokenizer, '"taxi", "parameters": {}}'), decode)
    assert not bare.any(), "without its beginning it is no call"


def test_text_that_does_not_add_up_is_not_marked() -> None:
    """A tokenizer whose tokens change each other's text: nothing is guessed."""

    def decode(ids: Sequence[int]) -> str:
        return "<think>" if len(ids) > 9 else "x" * (20 - len(ids))

    strange: Decode = decode
    assert token_ends(list(range(12)), strange) is None
    assert not token_spans(list(range(12)), strange).any()


def batch(**credit: object) -> PromptBatch:
    made = PromptBatch.model_validate_json(example("PromptBatch"))
    weights = {"format": 0.5, "tool_name": 1.5}
    return made.model_copy(
        update={"credit": CreditSpec.model_validate(credit), "component_weights": weights}
    )


def test_groups_carry_weights_always_and_spans_on_request(tokenizer: object) -> None:
    ids = ids_of(tokenizer, CALL)
    prompt = [5, 6, 7]
    one = prompt + ids
    num = 2 * len(one)
    group = GroupTrajectories(
        tokens_T=np.array(one + one, dtype=np.int32),
        loss_mask_T=np.array(([0] * 3 + [1] * len(ids)) * 2, dtype=np.uint8),
        logprobs_T=np.zeros(num, dtype=np.float32),
        versions_T=np.zeros(num, dtype=np.int32),
        cu_seqlens=np.array([0, len(one), num], dtype=np.int32),
    )
    marker = Marker(decoder(tokenizer))
    plain = marker.of(batch())(group)
    assert plain.spans_T is None
    assert plain.component_weights == {"format": 0.5, "tool_name": 1.5}
    assert plain.texts == (decoder(tokenizer)(ids),) * 2, "what was sampled, without the prompt"
    marked = marker.of(batch(spans=True))(group)
    assert marked.spans_T is not None
    wanted = [0] * 3 + token_spans(ids, decoder(tokenizer)).tolist()
    assert marked.spans_T.tolist() == wanted * 2
    assert marked.tokens_T is group.tokens_T


def test_every_turn_of_an_episode_is_read_by_itself(tokenizer: object) -> None:
    """An observation stands between two calls: both are marked, and so is what was prefilled."""
    encode = tokenizer.encode  # type: ignore[attr-defined]
    prefill = "<think> the name"
    ids: list[int] = encode(CALL.removeprefix(prefill), add_special_tokens=False)
    own, told = len(ids), 4
    mask = [0] * 3 + [1] * own + [0] * told + [1] * own
    group = GroupTrajectories(
        tokens_T=np.array([5] * 3 + ids + [6] * told + ids, dtype=np.int32),
        loss_mask_T=np.array(mask, dtype=np.uint8),
        logprobs_T=np.zeros(len(mask), dtype=np.float32),
        versions_T=np.array([bit - 1 for bit in mask], dtype=np.int32),
        cu_seqlens=np.array([0, len(mask)], dtype=np.int32),
    )
    spans_T = Marker(decoder(tokenizer), prefill=prefill).spans(group)
    text = decoder(tokenizer)(ids)
    assert Marker(decoder(tokenizer)).texts(group) == (f"{text}\n{text}",)
    once = token_spans(ids, decoder(tokenizer), prefill=prefill).tolist()
    assert spans_T.tolist() == [0] * 3 + once + [0] * told + once
    assert once.count(TOOL_NAME) > 0


def test_weights_act_in_the_reward_or_in_the_advantage() -> None:
    assert reward_weights(batch()) == {"format": 0.5, "tool_name": 1.5}
    assert reward_weights(batch(component_weights_in="advantage")) == {}
