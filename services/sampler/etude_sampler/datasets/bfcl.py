"""BFCL's files, those of the installed `bfcl-eval` package first of all, as rows.

What a row means is `etude_proto.rows.bfcl`; gold stands in files of its own, joined by id here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from etude_client.sources.files import count_rows, json_lines
from etude_proto.rows.bfcl import SINGLE_TURN, Category, bfcl_task, bfcl_turns_task
from etude_proto.rows.stream import DatasetUnusable, RowStream, converted
from etude_proto.split import DEFAULT_HELD_OUT_SHARE

PACKAGE = "bfcl_eval"
INSTALL = "pip install --no-deps bfcl-eval==2026.3.23"


def installed_data() -> Path:
    """Folder of the data in the installed package, found without importing it.

    Raises:
        DatasetUnusable: not installed; the message says how to install it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        data = Path(folder) / "data"
        if data.is_dir():
            return data
    raise DatasetUnusable(f"BFCL's data is not installed; get it with: {INSTALL}")


def bfcl_rows(
    data: Path,
    categories: Sequence[Category] = SINGLE_TURN,
    *,
    held_out_share: float = DEFAULT_HELD_OUT_SHARE,
) -> RowStream:
    """Tasks of the categories, in the order given; `origin` is the file of questions.

    Raises:
        DatasetUnusable: at the step that reaches a file which cannot be read.
    """
    for category in categories:
        questions = _questions(data, category)
        convert = partial(
            bfcl_turns_task if category.is_multi_turn else bfcl_task,
            category=category,
            gold=dict(_gold(data, category)) if category.has_gold_calls else None,
            held_out_share=held_out_share,
        )
        yield from converted(json_lines(questions), convert, origin=questions.name)


def count_bfcl_rows(data: Path, categories: Sequence[Category]) -> int:
    """Rows of the categories, for a progress bar.

    Raises:
        DatasetUnusable: a file cannot be read.
    """
    return sum(count_rows(_questions(data, category)) or 0 for category in categories)


def _questions(data: Path, category: Category) -> Path:
    return data / f"BFCL_v4_{category}.json"


def _gold(data: Path, category: Category) -> Iterator[tuple[str, JsonValue]]:
    """Ids and gold of a file of possible answers; a bad row leaves its question without gold."""
    for _, row in json_lines(data / "possible_answer" / _questions(data, category).name):
        if isinstance(row, dict) and isinstance(row.get("id"), str):
            yield str(row["id"]), row.get("ground_truth")
