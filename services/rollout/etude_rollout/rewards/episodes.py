"""Scores of episodes: what the last turn said, which calls were made, what the environment judged.

All of it is our choice, but for the exact match of answers, which is RAG-R1's reward (2507.02962).
The scale is ToolRL's: format in [0, 1], all other components together in [-3, 3], so that tasks of
one turn and episodes can stand in one run. Pure; `turns/` gathers the facts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .scored import Scored
from .values import json_equal

ANSWER, CALLS, STATE, RESPONSE = "answer", "calls", "state", "response"
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION: Final = re.compile(r"[^\w\s]")
_NUMBER: Final = re.compile(r"[-+]?(?:\d[\d,]*)?\.?\d+(?:[eE][-+]?\d+)?")
_LONGEST_NUMBER: Final = 64
_SPREAD: Final = 6.0
_LOWEST: Final = -3.0


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A call, as made or as wanted."""

    name: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class EpisodeGold:
    """What an episode is to reach."""

    answers: tuple[str, ...] = ()
    calls: tuple[MadeCall, ...] = ()
    judged: tuple[str, ...] = ()
    """Components that the environment tells."""


@dataclass(frozen=True, slots=True)
class EpisodeFacts:
    """What is known of a finished episode."""

    is_well_formed: bool
    answer: str | None
    """What the last turn said to the user; null if the episode ended otherwise."""
    calls: Sequence[MadeCall]
    """Every call that was executed, without an error, in order."""
    judged: Mapping[str, float] = field(default_factory=dict)


def gold_of_episode(reference: Mapping[str, object]) -> EpisodeGold:
    """The gold of a reference of kind `episode` or `bfcl_turns`. Raises ValueError for others."""
    if reference.get("kind") == "bfcl_turns":
        return EpisodeGold(judged=(STATE, RESPONSE))
    answers, calls = reference.get("answers"), reference.get("calls")
    if reference.get("kind") != "episode" or not isinstance(answers, list):
        raise ValueError(f"an episode has no reference of kind {reference.get('kind')!r}")
    wanted = calls if isinstance(calls, list) else []
    return EpisodeGold(
        answers=tuple(answers),
        calls=tuple(MadeCall(call["name"], call["parameters"]) for call in wanted),
    )


def score_episode(
    facts: EpisodeFacts, gold: EpisodeGold, *, weights: Mapping[str, float] | None = None
) -> Scored:
    """Components, success and `w_f format + 6 sum(w q) / sum(w) - 3`; a weight not given is 1.

    Raises ValueError for a negative or non-finite weight, and if all but the format's are 0.
    """
    components = {"format": 1.0 if facts.is_well_formed else 0.0}
    if gold.answers:
        components[ANSWER] = 1.0 if _is_answer(facts.answer, gold.answers) else 0.0
    if gold.calls:
        components[CALLS] = share_made(gold.calls, facts.calls)
    components |= {name: facts.judged.get(name, 0.0) for name in gold.judged}
    scale = {name: (weights or {}).get(name, 1.0) for name in components}
    if not all(0.0 <= weight < math.inf for weight in scale.values()):
        raise ValueError(f"weights must be finite numbers >= 0, not {scale}")
    named = [name for name in components if name != "format"]
    total = sum(scale[name] for name in named)
    if named and total <= 0.0:
        raise ValueError(f"the weights of {', '.join(named)} are all 0")
    share = sum(scale[name] * components[name] for name in named) / total if named else 0.0
    correctness = _SPREAD * share + _LOWEST if named else 0.0
    format_part = scale["format"] * components["format"]
    return Scored(
        total=format_part + correctness,
        format=format_part,
        correctness=correctness,
        length=0.0,
        components=components,
        success=all(value == 1.0 for value in components.values()),
        num_gold_calls=len(gold.calls),
        num_gold_params=sum(len(call.parameters) for call in gold.calls),
    )


def share_made(wanted: Sequence[MadeCall], made: Sequence[MadeCall]) -> float:
    """Share of the wanted calls that are among those made, each of these used once."""
    left = list(made)
    found = 0
    for one in wanted:
        for at, other in enumerate(left):
            if one.name == other.name and json_equal(dict(one.parameters), dict(other.parameters)):
                del left[at]
                found += 1
                break
    return found / len(wanted)


def normal_answer(text: str) -> str:
    """Lower case, without articles, punctuation and spare space."""
    return " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub(" ", text.lower())).split())


def _is_answer(answer: str | None, right: Sequence[str]) -> bool:
    if answer is None:
        return False
    number = _number(answer)
    for one in right:
        wanted = _number(one)
        if number is not None and wanted is not None:
            if math.isclose(number, wanted, rel_tol=1e-9, abs_tol=1e-12):
                return True
        elif (normal := normal_answer(one)) == normal_answer(answer) and (normal or one == answer):
            return True
    return False


def _number(text: str) -> float | None:
    """The number that a text is, with or without a full stop at its end."""
    stripped = text.strip().removesuffix(".")
    if len(stripped) > _LONGEST_NUMBER or not _NUMBER.fullmatch(stripped):
        return None
    return float(stripped.replace(",", ""))
