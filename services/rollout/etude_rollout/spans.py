"""Spans: which tokens of a completion a reward component judges (algorithms.md, 3.6).

Tags belong to `format`, the value of `name` in a call to `tool_name`, the keys of its `parameters`
to `param_name`, their values to `param_value`; the thought and all other text to none. Calls are
cut out as the rewards cut them (`rewards.toolrl_format`); a line that is no call has no spans, for
its parts cannot be told. Pure, but for the tokenizer that is asked to decode. `outbox.py` marks a
group just before it is sent, if the run's credit asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from etude_proto.tensors import SPAN_COMPONENTS, GroupTrajectories
from etude_proto.v1 import PromptBatch

from .rewards.toolrl_format import (
    CALL_CLOSE,
    CALL_OPEN,
    RESPONSE_CLOSE,
    RESPONSE_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
)

FORMAT, TOOL_NAME, PARAM_NAME, PARAM_VALUE = range(1, len(SPAN_COMPONENTS) + 1)
TAGS: Final = (THINK_OPEN, THINK_CLOSE, CALL_OPEN, CALL_CLOSE, RESPONSE_OPEN, RESPONSE_CLOSE)
Decode = Callable[[Sequence[int]], str]
"""Token ids as text, special tokens skipped: what the rewards have read."""
_WINDOW: Final = 4
"""Fewest tokens decoded before one: some tokenizers write a text's first token differently."""
_BROKEN: Final = "\ufffd"
"""What an unfinished character is decoded to."""
_DECODER: Final = json.JSONDecoder()


def text_spans(text: str) -> NDArray[np.uint8]:
    """The component of every character: 0 none, k + 1 for `SPAN_COMPONENTS[k]`."""
    spans = np.zeros(len(text), dtype=np.uint8)
    for tag in TAGS:
        at = text.find(tag)
        while at >= 0:
            spans[at : at + len(tag)] = FORMAT
            at = text.find(tag, at + len(tag))
    body = text.rfind(THINK_CLOSE) + 1  # a call that is named in the thought is no call
    begin = text.find(CALL_OPEN, body)
    if begin < 0:
        return spans
    begin += len(CALL_OPEN)
    end = text.find(CALL_CLOSE, begin)
    at = begin
    for line in text[begin : None if end < 0 else end].split("\n"):
        for first, last, component in _call_spans(line):
            spans[at + first : at + last] = component
        at += len(line) + 1
    return spans


def _call_spans(line: str) -> list[tuple[int, int, int]]:
    """Begin, end and component of the parts of one line; none if it is not a whole call."""
    found: list[tuple[int, int, int]] = []
    try:
        if not isinstance(json.loads(line), dict):
            return []
        for key, _, (begin, end) in _members(line, line.index("{")):
            if key == "name":
                found.append((begin, end, TOOL_NAME))
            elif key == "parameters" and line[begin] == "{":
                for _, name, value in _members(line, begin):
                    found += [(*name, PARAM_NAME), (*value, PARAM_VALUE)]
    except (ValueError, RecursionError):
        return []
    return found


def _members(text: str, at: int) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    """Key, and places of key and value, of the members of the valid object that begins at `at`."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, after = _DECODER.raw_decode(text, at)
        begin = _skip(text, _skip(text, after) + 1)
        _, end = _DECODER.raw_decode(text, begin)
        yield key, (at, after), (begin, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The next place that is not white space."""
    while text[at] in " \t\n\r":
        at += 1
    return at


def token_ends(token_ids: Sequence[int], decode: Decode) -> list[int] | None:
    """Where in the decoded text each token ends; None if the tokens' texts do not add up.

    A token that ends within a character ends where that character begins. The text of a token is
    what it adds to that of the few before it: exact for byte-level tokenizers, and checked.
    """
    ends: list[int] = []
    whole = [0]  # numbers of tokens after which the text ends with a whole character
    for i in range(len(token_ids)):
        first = next(n for n in reversed(whole) if n <= max(0, i - _WINDOW))
        text, before = decode(token_ids[first : i + 1]), decode(token_ids[first:i])
        added = len(text.rstrip(_BROKEN)) - len(before.rstrip(_BROKEN))
        ends.append(added + (ends[-1] if ends else 0))
        if not text.endswith(_BROKEN):
            whole.append(i + 1)
    text = decode(token_ids)
    pieces = zip([0, *ends], ends, strict=False)
    adds_up = not ends or ends[-1] == len(text.rstrip(_BROKEN))
    return ends if adds_up and all(begin <= end for begin, end in pieces) else None


def token_spans(
    token_ids: Sequence[int], decode: Decode, *, prefill: str = ""
) -> NDArray[np.uint8]:
    """The component of every token: that of most of its characters, the first of equals.

    A token without text, such as the end of a turn, has none.

    Args:
        token_ids: the tokens that the policy sampled.
        decode: gives their text.
        prefill: text before them that counts as said.
    """
    spans = np.zeros(len(token_ids), dtype=np.uint8)
    ends = token_ends(token_ids, decode)
    if ends is None:
        return spans
    characters = text_spans(prefill + decode(token_ids))[len(prefill) :]
    begin = 0
    for i, end in enumerate(ends):
        if end > begin:
            counts = np.bincount(characters[begin:end], minlength=1 + len(SPAN_COMPONENTS))
            spans[i] = 0 if counts[1:].max() == 0 else 1 + int(counts[1:].argmax())
        begin = end
    return spans


@dataclass(frozen=True, slots=True)
class Marker:
    """Says in a group's trajectories under which weights, and by which component, it was judged."""

    decode: Decode
    prefill: str = ""
    """Text that the assistant's turn begins with."""

    def of(self, batch: PromptBatch) -> Callable[[GroupTrajectories], GroupTrajectories]:
        """What is added to the groups of a batch: w of its lease, texts, spans if asked for."""

        def finish(group: GroupTrajectories) -> GroupTrajectories:
            spans_T = self.spans(group) if batch.credit.spans else group.spans_T
            weights = dict(batch.component_weights)
            texts = self.texts(group)
            return replace(group, spans_T=spans_T, component_weights=weights, texts=texts)

        return finish

    def texts(self, group: GroupTrajectories) -> tuple[str, ...]:
        """What the policy said in each rollout, its turns on lines of their own."""
        return tuple("\n".join(map(self.decode, turns)) for turns in _turns(group))

    def spans(self, group: GroupTrajectories) -> NDArray[np.uint8]:
        """The component of every token of a group; 0 for what was not sampled.

        Each turn of an episode is read by itself, as the policy said it.
        """
        spans_T = np.zeros(len(group.tokens_T), dtype=np.uint8)
        for begin, end in zip(group.cu_seqlens[:-1], group.cu_seqlens[1:], strict=True):
            sampled = begin + np.flatnonzero(group.loss_mask_T[begin:end])
            for turn in np.split(sampled, np.flatnonzero(np.diff(sampled) > 1) + 1):
                ids: list[int] = group.tokens_T[turn].tolist()
                spans_T[turn] = token_spans(ids, self.decode, prefill=self.prefill)
        return spans_T


def _turns(group: GroupTrajectories) -> Iterator[list[list[int]]]:
    """The sampled tokens of each rollout, by turn."""
    for begin, end in zip(group.cu_seqlens[:-1], group.cu_seqlens[1:], strict=True):
        sampled = begin + np.flatnonzero(group.loss_mask_T[begin:end])
        turns = np.split(sampled, np.flatnonzero(np.diff(sampled) > 1) + 1)
        yield [group.tokens_T[turn].tolist() for turn in turns if len(turn)]


def reward_weights(batch: PromptBatch) -> Mapping[str, float]:
    """The weights that the reward is made with: none where they act in the advantage."""
    in_reward = batch.credit.component_weights_in == "reward"
    return batch.component_weights if in_reward else {}


class TextTokenizer(Protocol):
    """What is used of a `transformers` tokenizer."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Text of token ids."""


def decoder(tokenizer: object) -> Decode:
    """The text of token ids as the rewards read it."""
    asked = cast(TextTokenizer, tokenizer)
    return lambda token_ids: asked.decode(token_ids, skip_special_tokens=True)
