"""BFCL's rows as items: categories, prompts, splits (package `bfcl-eval`, data of its version 4).

Files are read from the installed package without importing it; rows of several turns are made items
by `bfcl_turns.py`. `bfcl.py` judges, `bfcl_scores.py` averages. Row format: platform.md 6.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from etude_proto.split import DEFAULT_HELD_OUT_SHARE, held_out_fraction
from etude_proto.v1 import Message, Tool

from .items import EvaluationError, Item, Split

PACKAGE = "bfcl_eval"
DISTRIBUTION = "bfcl-eval"
INSTALL = "pip install --no-deps bfcl-eval==2026.3.23"

NON_LIVE = (
    "simple_python",
    "simple_java",
    "simple_javascript",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
)
LIVE = (
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
    "live_relevance",
)
MULTI_TURN = (
    "multi_turn_base",
    "multi_turn_miss_func",
    "multi_turn_miss_param",
    "multi_turn_long_context",
)
SINGLE_TURN = NON_LIVE + LIVE
ALL = SINGLE_TURN + MULTI_TURN
"""What version 3 scores, in the order of the table."""
WITHOUT_ANSWERS = ("irrelevance", "live_irrelevance", "live_relevance")
IMPORTED = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "irrelevance",
    "live_irrelevance",
    *MULTI_TURN,
)
"""Categories that `etude import bfcl` makes tasks of: their rows may have been trained on."""

NO_TOOL = "None"
"""Name by which a model may say that no tool fits (ToolRL's handler)."""
NO_TOOL_HINT = f'If none of the tools fits the request, call a tool named "{NO_TOOL}".'
"""Follows the request, as in ToolRL's handler; the words are ours."""

_LANGUAGES = {"simple_java": "Java", "simple_javascript": "JavaScript"}
_ROW = TypeAdapter(dict[str, JsonValue])
_FUNCTIONS = TypeAdapter(list[dict[str, JsonValue]])
_MESSAGES = TypeAdapter(list[Message])
_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
"""BFCL's type names that JSON Schema does not have; `any` becomes no type at all."""


def installed_data() -> Path:
    """Folder of the data in the installed package, found without importing it.

    Raises:
        EvaluationError: not installed; the message says how to install it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        data = Path(folder) / "data"
        if data.is_dir():
            return data
    raise EvaluationError(f"BFCL is not installed; get it with: {INSTALL}")


def package_version() -> str:
    """Version of the installed package."""
    return importlib.metadata.version(DISTRIBUTION)


def rows(folder: Path, name: str) -> Iterator[dict[str, JsonValue]]:
    """Rows of a file of JSON lines.

    Raises:
        EvaluationError: it cannot be read, or a line is no object.
    """
    path = folder / name
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _ROW.validate_json(line)
            except ValidationError as error:
                raise EvaluationError(f"{path} line {number}: no JSON object") from error


def file_name(category: str) -> str:
    """File of a category's questions, and of its answers in the folder beside."""
    return f"BFCL_v4_{category}.json"


def digest(folder: Path, categories: tuple[str, ...]) -> str:
    """Of the categories' files, so that answers to other rows are kept apart."""
    hashed = hashlib.sha256()
    for category in categories:
        for path in (
            folder / file_name(category),
            folder / "possible_answer" / file_name(category),
        ):
            hashed.update(path.read_bytes() if path.is_file() else b"")
    return hashed.hexdigest()[:16]


def read_items(folder: Path, category: str, *, hint: bool) -> list[Item]:
    """Items of a single-turn category; `row` holds question, `function`, and `ground_truth` if any.

    Raises:
        EvaluationError: a file cannot be read, or a row not be used.
    """
    answers: Mapping[str, JsonValue] = {}
    if category not in WITHOUT_ANSWERS:
        found = rows(folder / "possible_answer", file_name(category))
        answers = {str(row.get("id")): row.get("ground_truth") for row in found}
    return [_item(row, category, answers, hint=hint) for row in rows(folder, file_name(category))]


def functions_of(row: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    """The row's functions, as BFCL writes them."""
    return _FUNCTIONS.validate_python(row.get("function"))


def split_of(messages: list[Message], category: str) -> Split | None:
    """Where an import with the default share puts this row; null where none puts it anywhere."""
    if category not in IMPORTED:
        return None
    return "held_out" if held_out_fraction(messages) < DEFAULT_HELD_OUT_SHARE else "train"


def _item(
    row: dict[str, JsonValue], category: str, answers: Mapping[str, JsonValue], *, hint: bool
) -> Item:
    item_id = str(row.get("id"))
    question = row.get("question")
    try:
        messages = _MESSAGES.validate_python(question[0] if isinstance(question, list) else None)
        language = _LANGUAGES.get(category)
        tools = tuple(_tool(function, language) for function in functions_of(row))
    except (ValidationError, IndexError) as error:
        raise EvaluationError(f"{file_name(category)} row {item_id} cannot be used") from error
    if category not in WITHOUT_ANSWERS:
        if item_id not in answers:
            raise EvaluationError(f"{file_name(category)} row {item_id} has no answer")
        row = {**row, "ground_truth": answers[item_id]}
    split = split_of(messages, category)
    shown = _with_hint(messages) if hint else messages
    return Item(item_id, category, tuple(shown), tools, row, split)


def _with_hint(messages: list[Message]) -> list[Message]:
    """The dialogue with ToolRL's way out after the last thing the user said."""
    at = max((n for n, turn in enumerate(messages) if turn.role == "user"), default=None)
    if at is None:
        return messages
    said = f"{messages[at].content}\n{NO_TOOL_HINT}"
    return [*messages[:at], messages[at].model_copy(update={"content": said}), *messages[at + 1 :]]


def _tool(function: dict[str, JsonValue], language: str | None) -> Tool:
    parameters = function.get("parameters")
    shown = _schema(parameters)
    if language is not None and isinstance(shown, dict):
        shown = {**shown, "properties": _as_text(parameters, language)}
    return Tool(
        name=str(function.get("name")),
        description=str(function.get("description", "")),
        parameters=shown if isinstance(shown, dict) else {},
    )


def _schema(node: JsonValue) -> JsonValue:
    """A description of parameters with JSON Schema's names of types, at every depth."""
    if isinstance(node, list):
        return [_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    kind = node.get("type")
    if not isinstance(kind, str):
        return {key: _schema(value) for key, value in node.items()}
    named = {} if kind == "any" else {"type": _TYPES.get(kind, kind)}
    return {**named, **{key: _schema(value) for key, value in node.items() if key != "type"}}


def _as_text(parameters: JsonValue, language: str) -> dict[str, JsonValue]:
    """Properties of a Java or JavaScript function: every value is source text in a string.

    BFCL's checker reads them so; the words that tell the model are ours.
    """
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    told: dict[str, JsonValue] = {}
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        about = schema if isinstance(schema, dict) else {}
        kind = f"{language} expression of type {about.get('type', 'any')}, as text"
        told[name] = {"type": "string", "description": f"{about.get('description', '')} ({kind})"}
    return told
