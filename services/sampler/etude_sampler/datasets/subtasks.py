"""Which sub-tasks a reference exercises: the lanes that a task stands in.

The components are ToolRL's parts (algorithms.md 3.1); which of them a gold makes active is the
same rule that the rollout service's rewards apply, and a test compares the two. Pure.
"""

from __future__ import annotations

from etude_proto.v1 import (
    BFCLReference,
    CallsReference,
    Reference,
    ResponseReference,
    ToolRLReference,
)

from .toolrl_gold import parse_gold

FORMAT, TOOL_NAME, PARAM_NAME, PARAM_VALUE = "format", "tool_name", "param_name", "param_value"


def subtasks_of(reference: Reference | None) -> list[str]:
    """Active sub-tasks in the order of their prerequisites; none without a reference.

    `format` always; `tool_name` and `param_name` iff the gold has calls; `param_value` iff it
    has a parameter that has to be given (K > 0).

    Raises:
        RowRefused: ToolRL gold that cannot be parsed.
    """
    if reference is None:
        return []
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
        case BFCLReference(calls=allowed_calls):
            return len(allowed_calls), sum(
                "" not in allowed
                for call in allowed_calls
                for arguments in call.values()
                for allowed in arguments.values()
            )
        case ResponseReference() | None:
            return 0, 0
