"""Answers with the gold instead of a model's: a check of everything around the model.

The gold text goes through the tokenizer and back, and then the way of every answer. What does not
come out right is a fault of prompt, parser, checker or row, never of a model. Used by `running.py`
with `--gold`; engines answer otherwise (`engine_answers.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from etude_proto.v1 import FinishReason

from ..engines.base import Completion, GenerationRequest
from .items import Benchmark, Item


class Codec(Protocol):
    """What is used of a `transformers` tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool, verbose: bool) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """Text of token ids."""


class GoldAnswers:
    """Answers every item of a benchmark with its gold."""

    name = "gold/none"
    max_context = 0

    def __init__(self, benchmark: Benchmark, tokenizer: Codec) -> None:
        self._benchmark = benchmark
        self._tokenizer = tokenizer
        self._num_said: Counter[str] = Counter()
        """By item: answers that were given."""

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """The gold, encoded and decoded, whatever the prompt and its limits."""
        texts = self._benchmark.gold_answers(item)
        text = texts[min(self._num_said[item.id], len(texts) - 1)]
        self._num_said[item.id] += 1
        ids = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return Completion(
            token_ids=tuple(ids),
            logprobs=(0.0,) * len(ids),
            versions=(0,) * len(ids),
            text=self._tokenizer.decode(ids, skip_special_tokens=True),
            finish_reason=FinishReason.STOP,
        )
