"""Scaffold `noise_docs`: some context documents replaced by random ones (2502.11400, section 6).

An augmentation, not a help: the label stays. That noisy documents train robust models is the
paper's finding; how many are replaced, how often, and the shuffle are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from etude_proto.v1 import Aids, Message, Scaffold
from etude_sampler.curriculum.parts import Context, ScaffoldConfig
from etude_sampler.curriculum.scaffolding import Aid, Scaffolding, Served, Situation

from .plain import PlainScaffolding

LARGE_B = 7.0
"""Models of so many billion parameters get less noise: .3 and 1 instead of .5 and half."""


def num_replaced(num_documents: int, replace: int | None) -> int:
    """Documents to replace: `replace`, or half of them, at least 1; never more than there are."""
    half = max(1, num_documents // 2)
    return min(num_documents, half if replace is None else replace)


def replaced(messages: Sequence[Message], old: Sequence[str], new: Sequence[str]) -> list[Message]:
    """The messages with document i of `old` replaced by document i of `new`, in one pass."""
    found = []
    for message in messages:
        text = message.content
        spans = sorted((text.find(o), o, n) for o, n in zip(old, new, strict=True) if o in text)
        parts, at = [], 0
        for begin, before, after in spans:
            parts += [text[at:begin], after]
            at = begin + len(before)
        content = "".join([*parts, text[at:]])
        found.append(message.model_copy(update={"content": content}))
    return found


@dataclass(frozen=True, slots=True)
class NoiseScaffolding(PlainScaffolding):
    """Serves a task with some of its documents replaced, and all of them shuffled."""

    rho: float = 0.0
    replace: int | None = None

    def num_strangers(self, aids: Aids) -> int:
        """As many as are replaced."""
        return num_replaced(len(aids.documents), self.replace) if aids.documents else 0

    def num_numbers(self, aids: Aids) -> int:
        """One for the coin, one a document for the choice, one a document for the shuffle."""
        return 1 + 2 * len(aids.documents)

    def serve(self, task: Situation) -> Served:
        """The task's messages with noise, or bare with probability 1 - rho."""
        documents = task.aids.documents
        if not documents or not task.strangers or task.numbers[0] > self.rho:
            return Served()
        num = len(documents)
        chosen = np.argsort(task.numbers[1 : 1 + num], kind="stable")
        order = np.argsort(task.numbers[1 + num : 1 + 2 * num], kind="stable")
        shown = list(documents)
        for place, stranger in zip(chosen.tolist(), task.strangers, strict=False):
            shown[place] = stranger
        shuffled = [shown[place] for place in order.tolist()]
        messages = replaced(task.messages, documents, shuffled)
        return Served(scaffold=Scaffold(kind=self.kind, level=1, messages=messages))


class NoiseDocsConfig(ScaffoldConfig):
    """With some probability, replace context documents by random ones; the label stays."""

    name: ClassVar[str] = "noise_docs"
    paper: ClassVar[str] = "finding: 2502.11400; probability, number and shuffle are ours"
    aid: ClassVar[Aid | None] = "documents"

    model_size_b: float = Field(default=3.0, gt=0.0, le=10_000.0)
    """Billions of parameters of the policy; sets the two below where they are not given."""
    rho: float | None = Field(default=None, ge=0.0, le=1.0)
    """Probability of noise in a group; default .5, from 7B .3."""
    replace: int | None = Field(default=None, ge=1, le=64)
    """Documents to replace; default half of them, from 7B 1."""
    missing: Literal["refuse", "bare"] = "refuse"
    """Tasks without documents: `refuse` the run, or serve them `bare`."""

    def filled(self, context: Context) -> Self:
        """The same with what depends on the model's size."""
        is_large = self.model_size_b >= LARGE_B
        rho = (0.3 if is_large else 0.5) if self.rho is None else self.rho
        replace = 1 if is_large and self.replace is None else self.replace
        return self.model_copy(update={"rho": rho, "replace": replace})

    def build(self, context: Context) -> Scaffolding:
        """The scaffold."""
        filled = self.filled(context)
        assert filled.rho is not None
        return NoiseScaffolding(
            kind=self.name, aid=self.aid, rho=filled.rho, replace=filled.replace
        )
