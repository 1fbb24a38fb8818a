"""Demonstrations for hard tasks: shown at the end of the system text, as many as fit (4.2; ours).

The sampler chooses them (`etude_proto.v1.Demonstration`, best first); here those that came with
tasks are scored before they are shown, and the last ones are dropped while they are too long. What
is reported is what was shown. Also which right completion of a group becomes a demonstration for
others. Called by `episode.py` and, for episodes, by `turns/tabling.py`; `prompting.py` renders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from etude_proto.v1 import (
    MAX_COMPLETION_CHARS,
    Demonstration,
    Outcome,
    PromptItem,
    Reference,
    Scaffold,
)

from .phases import EpisodeFailed
from .prompting import Prompt
from .rolling import FEW_SHOT, Sample
from .tool_texts import tools_text

TOKEN_SHARE = 0.35
"""Most of the longest prompt that demonstrations may take (our choice)."""
HEADING = "# Examples"
_READ = (
    "Study these examples: each shows tools, a request and a right answer. "
    "Then answer the request below in the same output format."
)
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)


def guided_block(demonstrations: Sequence[Demonstration]) -> str:
    """The text that is appended to the system text; nothing stands after the last answer."""
    parts = [HEADING, _READ]
    for number, one in enumerate(demonstrations, start=1):
        parts.append(f"## Example {number}")
        if one.tools:
            parts.append(tools_text(one.tools))
        parts += [f"Request: {one.request}", one.answer]
    return "\n\n".join(parts)


class Shows(Protocol):
    """Shows one task, of one turn or of several."""

    def prompt(self, *, appended: str = "") -> Prompt:
        """The task's prompt with more text. Raises `EpisodeFailed`."""

    def is_right(self, answer: str, reference: Reference) -> bool:
        """Whether an answer to another task succeeds under the run's reward."""


def guided(roller: Shows, item: PromptItem, *, max_prompt_tokens: int) -> tuple[PromptItem, Prompt]:
    """The prompt with the demonstrations that fit, and the item as it is to be reported.

    Raises:
        EpisodeFailed: the task cannot be shown even without any.
    """
    bare = roller.prompt()
    if item.scaffold.kind != FEW_SHOT:
        return item, bare
    shown = [one for one in item.demonstrations if _is_right(roller, one)][: item.scaffold.level]
    longest = len(bare.token_ids) + TOKEN_SHARE * max_prompt_tokens
    while shown:
        try:
            prompt = roller.prompt(appended=guided_block(shown))
        except EpisodeFailed:
            prompt = None
        if prompt is not None and len(prompt.token_ids) <= longest:
            return _served(item, Scaffold(kind=FEW_SHOT, level=len(shown))), prompt
        shown.pop()
    return _served(item, Scaffold()), bare


def _is_right(roller: Shows, one: Demonstration) -> bool:
    """The policy's own were scored when they were said; others are scored here."""
    if one.origin == "policy":
        return True
    return one.reference is not None and roller.is_right(one.answer, one.reference)


def _served(item: PromptItem, scaffold: Scaffold) -> PromptItem:
    return item.model_copy(update={"scaffold": scaffold})


def with_completion(outcomes: Sequence[Outcome], samples: Sequence[Sample]) -> list[Outcome]:
    """The outcomes, with the text of the right one that thinks shortest, if there is any.

    Args:
        outcomes: of a group; those of `samples` come first.
        samples: the rollouts that have a completion.
    """
    told = list(outcomes)
    texts = {
        at: sample.text.strip()
        for at, sample in enumerate(samples)
        if sample.is_valid and sample.scored.success
    }
    kept = {
        at: text
        for at, text in texts.items()
        if len(text) <= MAX_COMPLETION_CHARS and "\0" not in text and _THOUGHT.search(text)
    }
    if kept:
        best = min(kept, key=lambda at: (len(_thought(kept[at])), at))
        told[best] = told[best].model_copy(update={"completion": kept[best]})
    return told


def _thought(text: str) -> str:
    found = _THOUGHT.search(text)
    return "" if found is None else found.group(1)
