"""Which shape rows have, and what makes tasks of them: the one table of converters.

The first row of a source decides (`recognised`); rows of another known shape are refused then.
The client recognises what it is given, `etude import auto` too; the other commands name a shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import assert_never

from pydantic import JsonValue

from ..split import DEFAULT_HELD_OUT_SHARE
from ..v1 import TaskCreate
from .apibank import apibank_task, is_apibank
from .bfcl import Category, bfcl_task, bfcl_turns_task
from .chat import chat_task, is_whole_dialogue
from .columns import Mapped
from .jsonl import given_task, is_openai_shape, jsonl_task
from .own_fields import has_gold
from .prompts import trl_task, verl_task
from .rlla import rlla_task
from .stream import DatasetUnusable, JsonObject, RowRefused, guarded
from .strict_json import parse_json
from .toolace import toolace_task
from .xlam import hammer_task, xlam_task

Convert = Callable[[JsonObject], TaskCreate]


class Shape(StrEnum):
    """Shapes of rows that are known by their columns."""

    TASK = "task"
    """The contract's own: `messages`, and what else a task has."""
    OPENAI = "openai"
    """`messages`, `tools`, and gold beside them as `calls` or `response`."""
    CHAT = "chat"
    """OpenAI's training dialogues: `messages` that go on to the assistant's turn."""
    TRL = "trl"
    """`prompt`: a text or a dialogue."""
    VERL = "verl"
    """`prompt`, `data_source` and `reward_model.ground_truth`."""
    RLLA = "rlla"
    """As verl's, with gold in ToolRL's output format."""
    XLAM = "xlam"
    """`query`, `tools` and `answers`; APIGen's and Hammer's rows too."""
    HAMMER = "hammer"
    """As xLAM's; never recognised, for nothing tells it apart."""
    TOOLACE = "toolace"
    """`system` with a JSON list of functions, and `conversations`."""
    APIBANK = "apibank"
    """`system`, `user`, `answer`; or `instruction`, `input`, `expected_output`."""
    BFCL = "bfcl"
    """`id`, `question`, `function`, and `ground_truth` joined on."""


def recognised(row: JsonObject) -> Shape:
    """The shape of a row, by its columns.

    Raises:
        DatasetUnusable: none that is known; the columns, and what to do, are named.
    """
    row = {name: value for name, value in row.items() if value is not None}
    if "messages" in row:
        if not has_gold(row) and is_whole_dialogue(_read(row["messages"])):
            return Shape.CHAT
        return Shape.OPENAI if is_openai_shape(row) else Shape.TASK
    if isinstance(row.get("conversations"), list) and "system" in row:
        return Shape.TOOLACE
    if {"query", "tools", "answers"} <= row.keys():
        return Shape.XLAM
    if {"question", "function", "id"} <= row.keys() or {
        "question",
        "involved_classes",
    } <= row.keys():
        return Shape.BFCL
    if is_apibank(row):
        return Shape.APIBANK
    if "prompt" in row:
        if "reward_model" not in row:
            return Shape.TRL
        return Shape.RLLA if _is_toolrl(_read(row["reward_model"])) else Shape.VERL
    raise DatasetUnusable(_unknown(row))


def refuse_others(shape: Shape, row: JsonObject) -> None:
    """Refuse a row of another known shape than the first row's; a line is `task` or `openai`.

    Raises:
        RowRefused: both shapes are named.
    """
    try:
        own = recognised(row)
    except DatasetUnusable:
        return  # its converter says what is missing
    if own is not shape and not {own, shape} <= {Shape.TASK, Shape.OPENAI}:
        raise RowRefused("", f"a row of shape `{own}`, and the first row's is `{shape}`")


def converter(
    shape: Shape | None,
    *,
    held_out_share: float = DEFAULT_HELD_OUT_SHARE,
    columns: Mapped | None = None,
    mask: bool = False,
    as_given: bool = False,
) -> Convert:
    """What makes tasks of rows.

    Args:
        shape: of the rows; None with a whole mapping.
        held_out_share: of the dialogues whose rows say nothing about their split.
        columns: a mapping instead of a shape, or on top of it.
        mask: hide the names of tools, for rows of xLAM's shape.
        as_given: rows of shape `task` are taken as they are, sub-tasks and split too.
    """
    if columns is not None and columns.is_whole:
        return partial(columns.task, held_out_share=held_out_share)
    assert shape is not None
    convert = _of_shape(shape, held_out_share, mask=mask, as_given=as_given)

    def convert_row(row: JsonObject) -> TaskCreate:
        task = guarded(convert, {name: value for name, value in row.items() if value is not None})
        return task if columns is None else columns.changed(row, task)

    return convert_row


def _of_shape(shape: Shape, share: float, *, mask: bool, as_given: bool) -> Convert:
    match shape:
        case Shape.TASK if as_given:
            return given_task
        case Shape.TASK | Shape.OPENAI:
            return partial(jsonl_task, held_out_share=share)
        case Shape.CHAT:
            return partial(chat_task, held_out_share=share)
        case Shape.TRL:
            return partial(trl_task, held_out_share=share)
        case Shape.VERL:
            return partial(verl_task, held_out_share=share)
        case Shape.RLLA:
            return partial(rlla_task, held_out_share=share)
        case Shape.XLAM:
            return partial(xlam_task, held_out_share=share, mask=mask)
        case Shape.HAMMER:
            return partial(hammer_task, held_out_share=share, mask=mask)
        case Shape.TOOLACE:
            return partial(toolace_task, held_out_share=share)
        case Shape.APIBANK:
            return apibank_task
        case Shape.BFCL:
            return partial(_bfcl_row, held_out_share=share)
    assert_never(shape)


def _bfcl_row(row: JsonObject, *, held_out_share: float) -> TaskCreate:
    """A row of BFCL's questions with its gold joined on as `ground_truth`."""
    bfcl_id = row.get("id")
    name = re.sub(r"_\d[\d-]*$", "", bfcl_id) if isinstance(bfcl_id, str) else ""
    if not isinstance(bfcl_id, str) or name not in set(Category):
        raise RowRefused("/id", f"no category of BFCL's that is imported: {str(bfcl_id)[:80]!r}")
    category = Category(name)
    if not category.has_gold_calls:
        return bfcl_task(row, category=category, gold=None, held_out_share=held_out_share)
    if "ground_truth" not in row:
        raise RowRefused(
            "/ground_truth", "gold stands in a file of its own: join it on, or `etude import bfcl`"
        )
    convert = bfcl_turns_task if category.is_multi_turn else bfcl_task
    gold = {bfcl_id: row["ground_truth"]}
    return convert(row, category=category, gold=gold, held_out_share=held_out_share)


def _is_toolrl(reward_model: JsonValue) -> bool:
    gold = reward_model.get("ground_truth") if isinstance(reward_model, dict) else None
    marks = ("<tool_call>", "<response>", "<think>")
    return isinstance(gold, str) and any(mark in gold for mark in marks)


def _read(value: JsonValue) -> JsonValue:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except RowRefused:
        return value


def _unknown(row: JsonObject) -> str:
    names = ", ".join(map(repr, row)) or "none"
    likely = ("question", "problem", "instruction", "text", "query", "input", "user")
    guess = next((name for name in likely if name in row), next(iter(row), "question"))
    return (
        f"rows with the columns {names} have no known shape: say which column is what, for "
        f'example columns={{"prompt": "{guess}"}} (`--columns prompt={guess}`)'
    )
