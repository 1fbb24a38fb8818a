"""BFCL (the `bfcl-eval` package's data) as tasks.

BFCL is an evaluation set: every task says so in its metadata, and a fixed share is held out, so
that what was never trained on can be told apart. Figures of a model that trained on the rest must
not be compared with published ones. Row format: platform.md 6; gold: algorithms.md 9.2.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .argument_types import to_json_schema
from .finishing import finished
from .stream import JsonObject, RowRefused, checked, pointer_to
from .strict_json import kind_of


class Category(StrEnum):
    """The categories that are imported; the value is the file's and the id's part."""

    SIMPLE_PYTHON = "simple_python"
    """One tool on offer, one call."""
    MULTIPLE = "multiple"
    """Several tools on offer, one call."""
    PARALLEL = "parallel"
    """One tool on offer, several calls."""
    PARALLEL_MULTIPLE = "parallel_multiple"
    """Several tools on offer, several calls."""
    LIVE_SIMPLE = "live_simple"
    """As `simple_python`, contributed by users."""
    LIVE_MULTIPLE = "live_multiple"
    """As `multiple`, contributed by users."""
    IRRELEVANCE = "irrelevance"
    """No tool fits: the gold is an answer without a call."""
    LIVE_IRRELEVANCE = "live_irrelevance"
    """As `irrelevance`, contributed by users."""
    MULTI_TURN_BASE = "multi_turn_base"
    """Several user turns, tools of simulated services."""
    MULTI_TURN_LONG_CONTEXT = "multi_turn_long_context"
    """As `multi_turn_base`, and the services hold much that does not matter."""
    MULTI_TURN_MISS_FUNC = "multi_turn_miss_func"
    """As `multi_turn_base`, with a tool that is missing until it is needed a second time."""
    MULTI_TURN_MISS_PARAM = "multi_turn_miss_param"
    """As `multi_turn_base`, with a value that the user tells only when asked."""

    @property
    def has_gold_calls(self) -> bool:
        """Whether the category has a file of possible answers."""
        return self not in {Category.IRRELEVANCE, Category.LIVE_IRRELEVANCE}

    @property
    def is_multi_turn(self) -> bool:
        """Whether rows are episodes in an environment."""
        return self.startswith("multi_turn_")


SINGLE_TURN = tuple(category for category in Category if not category.is_multi_turn)
"""What is imported unless categories are named."""


_MOVED = {
    "/messages": "/question/0",
    "/tools": "/function",
    "/reference/calls": "/ground_truth",
    "/reference": "/ground_truth",
    "/metadata/bfcl_id": "/id",
}
_MOVED_TURNS = {
    "/messages": "/question/0",
    "/environment/user_turns": "/question",
    "/environment/config/classes": "/involved_classes",
    "/environment/config/initial_config": "/initial_config",
    "/environment/config/withheld": "/missed_function",
    "/reference/turns": "/ground_truth",
    "/metadata/bfcl_id": "/id",
}
_GOLD_MISSING = "no row with this id in the file of possible answers"


def bfcl_task(
    row: JsonObject,
    *,
    category: Category,
    gold: dict[str, JsonValue] | None,
    held_out_share: float = DEFAULT_HELD_OUT_SHARE,
) -> TaskCreate:
    """One row of questions as a task; `gold` maps ids to `ground_truth`, None without calls.

    Raises:
        RowRefused: with a pointer into the row (`/ground_truth` points into the answer's row).
    """
    bfcl_id = _identifier(row, gold)
    reference: JsonObject = (
        {"kind": "response"} if gold is None else {"kind": "bfcl", "calls": gold[bfcl_id]}
    )
    task = checked(
        TaskCreate,
        {
            "messages": _only_turn(row.get("question")),
            "tools": _tools(row.get("function")),
            "reference": reference,
            **_marks(category, bfcl_id),
        },
        _MOVED,
    )
    return finished(task, held_out_share, moved=_MOVED)


def bfcl_turns_task(
    row: JsonObject,
    *,
    category: Category,
    gold: dict[str, JsonValue] | None,
    held_out_share: float = DEFAULT_HELD_OUT_SHARE,
) -> TaskCreate:
    """One multi-turn row as a task with an environment; arguments as of `bfcl_task`.

    Raises:
        RowRefused: with a pointer into the row (`/ground_truth` points into the answer's row).
    """
    bfcl_id = _identifier(row, gold)
    assert gold is not None
    turns = row.get("question")
    if not isinstance(turns, list) or not turns:
        raise RowRefused("/question", "expected a list of turns")
    config: JsonObject = {
        "classes": row.get("involved_classes"),
        "initial_config": row.get("initial_config"),
        "long_context": category is Category.MULTI_TURN_LONG_CONTEXT,
        "withheld": row.get("missed_function", {}),
    }
    task = checked(
        TaskCreate,
        {
            "messages": turns[0],
            "reference": {"kind": "bfcl_turns", "turns": gold[bfcl_id]},
            "environment": {"kind": "bfcl_multi_turn", "config": config, "user_turns": turns[1:]},
            **_marks(category, bfcl_id),
        },
        _MOVED_TURNS,
    )
    return finished(task, held_out_share)


def _identifier(row: JsonObject, gold: dict[str, JsonValue] | None) -> str:
    bfcl_id = row.get("id")
    if not isinstance(bfcl_id, str):
        raise RowRefused("/id", f"expected a string, found {kind_of(bfcl_id)}")
    if gold is not None and bfcl_id not in gold:
        raise RowRefused("/id", _GOLD_MISSING)
    return bfcl_id


def _marks(category: Category, bfcl_id: str) -> JsonObject:
    """Where a task came from, and that it is of an evaluation set."""
    return {
        "source": f"bfcl/{category}",
        "metadata": {"bfcl_id": bfcl_id, "category": category, "evaluation_set": "bfcl_v4"},
    }


def _only_turn(question: JsonValue) -> JsonValue:
    if not isinstance(question, list) or not question:
        raise RowRefused("/question", "expected a list of turns")
    if len(question) > 1:
        raise RowRefused("/question", f"expected one turn, found {len(question)}")
    return question[0]


def _tools(functions: JsonValue) -> list[JsonValue]:
    if not isinstance(functions, list):
        raise RowRefused("/function", f"expected an array, found {kind_of(functions)}")
    tools: list[JsonValue] = []
    for index, function in enumerate(functions):
        if not isinstance(function, dict):
            place = pointer_to("function", index)
            raise RowRefused(place, f"expected an object, found {kind_of(function)}")
        parameters = function.get("parameters")
        if isinstance(parameters, dict):
            function = {**function, "parameters": to_json_schema(parameters)}
        tools.append(function)
    return tools
