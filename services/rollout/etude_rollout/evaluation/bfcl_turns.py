"""BFCL's multi-turn rows as items: dialogues in turns, simulated services, gold by turn.

The environment is the worker's own (`tools/`), the verdict the package's (`bfcl_turns_checker.py`).
Used by `bfcl.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import JsonValue, ValidationError

from etude_proto.v1 import Message
from etude_proto.v1.environments import BfclConfig, BfclEnvironment, gold_call

from .bfcl_data import file_name, rows, split_of
from .calls import answer_text, answer_without_calls
from .items import EpisodeSpec, EvaluationError, Item

MAX_STEPS = 20
"""Answers of the assistant to one of the user's turns in BFCL's harness; here a mean over the
episode."""
_DOCUMENTS = {
    "GorillaFileSystem": "gorilla_file_system.json",
    "MathAPI": "math_api.json",
    "MessageAPI": "message_api.json",
    "TwitterAPI": "posting_api.json",
    "TicketAPI": "ticket_api.json",
    "TradingBot": "trading_bot.json",
    "TravelAPI": "travel_booking.json",
    "VehicleControlAPI": "vehicle_control.json",
}
"""Files of the package that describe each service's tools."""


def read_turns_items(folder: Path, category: str) -> list[Item]:
    """Items of a multi-turn category; `row` holds the question's row with `ground_truth`.

    Raises:
        EvaluationError: a file cannot be read, or a row not be used.
    """
    answers = rows(folder / "possible_answer", file_name(category))
    gold = {str(row.get("id")): row.get("ground_truth") for row in answers}
    return [_item(row, category, gold) for row in rows(folder, file_name(category))]


def parameters_of(folder: Path, item: Item) -> dict[str, list[str]]:
    """Names of the tools that an item's services have, with those of their parameters in order."""
    classes = item.row["involved_classes"]
    found: dict[str, list[str]] = {}
    for name in classes if isinstance(classes, list) else ():
        found |= _parameters(folder, str(name))
    return found


def gold_turns(folder: Path, item: Item) -> list[str]:
    """What a policy says that makes exactly the gold calls: for each of the user's turns its calls
    in one answer, if there are any, and then an answer without."""
    truth = item.row["ground_truth"]
    known = parameters_of(folder, item)
    said: list[str] = []
    for turn in truth if isinstance(truth, list) else ():
        calls = [_named(str(text), known) for text in (turn if isinstance(turn, list) else ())]
        if calls:
            said.append(answer_text(calls))
        said.append(answer_without_calls("That is all I can do."))
    return said


def num_turns(item: Item) -> int:
    """How many times the user speaks."""
    truth = item.row["ground_truth"]
    return len(truth) if isinstance(truth, list) else 0


def _item(row: dict[str, JsonValue], category: str, gold: dict[str, JsonValue]) -> Item:
    item_id = str(row.get("id"))
    if item_id not in gold:
        raise EvaluationError(f"{file_name(category)} row {item_id} has no answer")
    question = row.get("question")
    if not isinstance(question, list):
        raise EvaluationError(f"{file_name(category)} row {item_id} has no turns")
    try:
        turns = [[Message.model_validate(said) for said in _list(turn)] for turn in question]
        environment = BfclEnvironment(
            config=BfclConfig.model_validate(
                {
                    "classes": row.get("involved_classes"),
                    "initial_config": row.get("initial_config"),
                    "long_context": category == "multi_turn_long_context",
                    "withheld": row.get("missed_function", {}),
                }
            ),
            user_turns=turns[1:],
        )
    except ValidationError as error:
        raise EvaluationError(f"{file_name(category)} row {item_id} cannot be used") from error
    return Item(
        id=item_id,
        domain=category,
        messages=tuple(turns[0]),
        tools=(),
        row={**row, "ground_truth": gold[item_id]},
        split=split_of(turns[0], category),
        episode=EpisodeSpec(environment, MAX_STEPS * len(turns)),
    )


def _named(text: str, known: dict[str, list[str]]) -> tuple[str, JsonValue]:
    """A gold call with all its values named: some rows give the first ones by place."""
    name, placed, named = gold_call(text)
    values = dict(zip(known[name], placed, strict=False)) | named
    return name, {key: _json(value) for key, value in values.items()}


def _json(value: object) -> JsonValue:
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _json(each) for key, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise EvaluationError(f"gold holds a {type(value).__name__}, which JSON has not")


def _list(value: JsonValue) -> Sequence[JsonValue]:
    return value if isinstance(value, list) else [value]


@cache
def _parameters(folder: Path, service: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for document in rows(folder / "multi_turn_func_doc", _DOCUMENTS[service]):
        parameters = document.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        found[str(document["name"])] = list(properties) if isinstance(properties, dict) else []
    return found
