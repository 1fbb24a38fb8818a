"""Which sub-tasks a reference exercises: the lanes that a task stands in.

The components are ToolRL's parts (algorithms.md 3.1); which of them a gold makes active is the
same rule that the rollout service's rewards apply, and a test compares the two. Pure.
"""

from __future__ import annotations

from ..v1 import (
    BFCLReference,
    BfclTurnsReference,
    CallsReference,
    EpisodeReference,
    Reference,
    ResponseReference,
    ToolRLReference,
)
from ..v1.environments import gold_call
from .toolrl_gold import parse_gold

FORMAT, TOOL_NAME, PARAM_NAME, PARAM_VALUE = "format", "tool_name", "param_name", "param_value"
ANSWER, CALLS, STATE, RESPONSE = "answer", "calls", "state", "response"
"""Components of episodes: the last turn's answer, calls that must be made; of BFCL's services, the
state and the responses after each user turn (our choice)."""


def subtasks_of(reference: Reference | None) -> list[str]:
    """Active sub-tasks in the order of their prerequisites; none without a reference.

    `format` always; `tool_name` and `param_name` iff the gold has calls; `param_value` iff it
    has a parameter that has to be given (K > 0). Episodes have components of their own.

    Raises:
        RowRefused: ToolRL gold that cannot be parsed.
    """
    if reference is None:
        return []
    if isinstance(reference, BfclTurnsReference):
        return [FORMAT, STATE, RESPONSE]
    if isinstance(reference, EpisodeReference):
        asked = {ANSWER: reference.answers, CALLS: reference.calls}
        return [FORMAT, *(name for name, gold in asked.items() if gold)]
    num_calls, num_parameters = gold_counts(reference)
    names = [FORMAT]
    if num_calls:
        names += [TOOL_NAME, PARAM_NAME]
    if num_parameters:
        names.append(PARAM_VALUE)
    return names


def gold_counts(reference: Reference | None) -> tuple[int, int]:
    """Gold calls and gold parameters (n and K).

    Raises:
        RowRefused: ToolRL gold that cannot be parsed.
    """
    match reference:
        case ToolRLReference(text=text):
            gold = parse_gold(text)
            return len(gold.calls), gold.num_parameters
        case CallsReference(calls=calls):
            return len(calls), sum(len(call.parameters) for call in calls)
        case EpisodeReference(calls=needed):
            return len(needed), sum(len(call.parameters) for call in needed)
        case BfclTurnsReference(turns=turns):
            made = [gold_call(text) for turn in turns for text in turn]
            return len(made), sum(len(args) + len(named) for _, args, named in made)
        case BFCLReference(calls=allowed_calls):
            return len(allowed_calls), sum(
                "" not in allowed
                for call in allowed_calls
                for arguments in call.values()
                for allowed in arguments.values()
            )
        case ResponseReference() | None:
            return 0, 0
