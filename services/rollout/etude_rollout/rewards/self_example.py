"""Whether a thought holds examples of the policy's own (algorithms.md 4.4, V2 to V6).

That such examples are rewarded is ToolExpander's (2510.07737); what makes them valid is our choice.
V1, the format check, is the caller's: `scoring.py` has made it already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final

from .toolrl_format import (
    CALL_CLOSE,
    CALL_OPEN,
    RESPONSE_CLOSE,
    RESPONSE_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    strict_call,
)

MAX_EXAMPLES: Final = 2
_PAIR: Final = re.compile(
    r"<example>(?P<example>.*?)</example>\s*<analysis>(?P<analysis>.*?)</analysis>", re.DOTALL
)
_TAGS: Final = ("<example>", "</example>", "<analysis>", "</analysis>")
_FORBIDDEN: Final = (CALL_OPEN, CALL_CLOSE, RESPONSE_OPEN, RESPONSE_CLOSE)
_WORD: Final = re.compile(r"\w+")
_LABEL: Final = re.compile(r"^\s*request\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SelfExampleRules:
    """What examples are held against."""

    tools: Mapping[str, Set[str]]
    """Names of the listed tools, each with its parameters' names."""
    request: str
    """The user's own request."""
    min_words: int = 8
    """Least words of an analysis."""
    max_similarity: float = 0.8
    """Token Jaccard with the user's request must stay below."""


def is_self_example(text: str, rules: SelfExampleRules) -> bool:
    """Whether the thought of a completion has one or two valid examples, each analysed."""
    thought = text.partition(THINK_OPEN)[2].partition(THINK_CLOSE)[0]
    if any(tag in thought for tag in _FORBIDDEN):
        return False
    pairs = list(_PAIR.finditer(thought))
    if not 1 <= len(pairs) <= MAX_EXAMPLES:
        return False
    if any(thought.count(tag) != len(pairs) for tag in _TAGS):
        return False
    return all(
        len(pair["analysis"].split()) >= rules.min_words and _is_example(pair["example"], rules)
        for pair in pairs
    )


def token_jaccard(left: str, right: str) -> float:
    """Words in common over words in all, as sets, case ignored; 0 for two texts without words."""
    left_words, right_words = _words(left), _words(right)
    union = left_words | right_words
    return len(left_words & right_words) / len(union) if union else 0.0


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _is_example(example: str, rules: SelfExampleRules) -> bool:
    """A request in words, then one call on a line of its own, as the tools allow it."""
    lines = [line.strip() for line in example.strip().split("\n") if line.strip()]
    calls = [line for line in lines if line.startswith("{")]
    if len(calls) != 1 or lines[-1] != calls[0]:
        return False
    request = _LABEL.sub("", " ".join(lines[:-1])).strip()
    if not request or token_jaccard(request, rules.request) >= rules.max_similarity:
        return False
    try:
        call = strict_call(calls[0])
    except (ValueError, RecursionError):
        return False
    allowed = rules.tools.get(str(call["name"]))
    parameters = call["parameters"]
    assert isinstance(parameters, dict), "strict_call has seen to it"
    return allowed is not None and parameters.keys() <= allowed
