"""`etude import`: the command line over the converters. Mounted by the sampler's `etude` program.

Exit codes: 0 all rows imported, 1 some refused (the good ones are imported), 2 nothing could be
done, said in one line. `running` does the work, `etude_client.sources` reads the rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude_client.sources.files import is_parquet
from etude_client.sources.reading import How, Reading
from etude_proto.rows.bfcl import SINGLE_TURN, Category
from etude_proto.rows.columns import Column, parse_columns
from etude_proto.rows.shapes import Shape
from etude_proto.rows.stream import DatasetUnusable
from etude_proto.split import DEFAULT_HELD_OUT_SHARE

from ..cli_options import DEFAULT_URL, AsJson, Key, Url
from .bfcl import bfcl_rows, count_bfcl_rows, installed_data
from .running import Source, Target, failure_in_one_line, name_of, run_import

HeldOut = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Share of the rows that no run draws.")
]
Report = Annotated[
    Path | None, typer.Option(dir_okay=False, help="Write a report with every bad row, as JSON.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Read at most so many rows.")]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", help="Dataset to import into; created if it is new.")
]
File = Annotated[
    Path,
    typer.Argument(
        help="JSON lines, a JSON array or Parquet; packed by gzip or zstd too.", show_default=False
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        help="Which column is what: prompt=question,answer=final,source='\"gsm8k\"'.",
        show_default=False,
    ),
]
Mask = Annotated[bool, typer.Option("--mask", help="Hide the names of tools and arguments.")]


def bfcl(
    *,
    category: Annotated[
        list[Category] | None,
        typer.Option(help="Only this category; may be repeated. Default: all single-turn ones."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of BFCL_v4_*.json instead of the package's.")
    ] = None,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import BFCL's rows, from the installed bfcl-eval package (an evaluation set).

    Figures on what was trained on must not be compared with published ones.

    Example: `etude import bfcl --category simple_python --limit 100`
    """
    categories = list(dict.fromkeys(category or SINGLE_TURN))
    with failure_in_one_line():
        folder = data or installed_data()
        source = Source(
            "BFCL",
            lambda: count_bfcl_rows(folder, categories),
            lambda: bfcl_rows(folder, categories, held_out_share=held_out),
        )
        code = run_import(source, Target(dataset or "bfcl", url, key, report, as_json), limit=limit)
    raise typer.Exit(code)


def auto(
    file: File,
    *,
    columns: ColumnsOption = None,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import rows of any known shape, or with `--columns` of any columns; the first row tells.

    Example: `etude import auto train.parquet --columns prompt=question,answer=final`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        reading = Reading(
            file, How(columns=_columns(columns), held_out_share=held_out, as_given=False)
        )
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def parquet(
    file: File,
    *,
    columns: ColumnsOption = None,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import a Parquet file of any known shape, or with `--columns` of any columns.

    Example: `etude import parquet train.parquet --dataset mine`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        if not is_parquet(file):
            raise DatasetUnusable(f"{file} is not Parquet: try `etude import auto`")
        reading = Reading(
            file, How(columns=_columns(columns), held_out_share=held_out, as_given=False)
        )
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def rlla(
    file: File,
    *,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import ToolRL's rows (`prompt`, `reward_model.ground_truth`).

    Example: `etude import rlla train.parquet --dataset toolrl`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        reading = Reading(file, How(Shape.RLLA, held_out_share=held_out, as_given=False))
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def xlam(
    file: File,
    *,
    mask: Mask = False,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import rows of xLAM's shape (`query`, `tools`, `answers`).

    APIGen's sets have it too; a row without answers expects that no tool is called.

    Example: `etude import xlam xlam.jsonl --dataset xlam --limit 1000`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        reading = Reading(file, How(Shape.XLAM, held_out_share=held_out, mask=mask, as_given=False))
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def hammer(
    file: File,
    *,
    mask: Mask = False,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import Hammer's rows: xLAM's shape, and rows whose tools do not fit.

    Example: `etude import hammer irrelevance.json --mask`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        reading = Reading(
            file, How(Shape.HAMMER, held_out_share=held_out, mask=mask, as_given=False)
        )
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def toolace(
    file: File,
    *,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import ToolACE's rows (`system` with a list of functions, `conversations`).

    A row is one task: the dialogue up to the first turn in which the assistant calls tools.

    Example: `etude import toolace data.json --dataset toolace`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        reading = Reading(file, How(Shape.TOOLACE, held_out_share=held_out, as_given=False))
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def apibank(
    file: File,
    *,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import API-Bank's rows, its own or as ToolRL processed them (an evaluation set).

    No run draws them: all are held out.

    Example: `etude import apibank level-1-api_processed.json --dataset api-bank`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        reading = Reading(file, How(Shape.APIBANK, as_given=False))
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def jsonl(
    file: File,
    *,
    dataset: DatasetName = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    held_out: HeldOut = DEFAULT_HELD_OUT_SHARE,
    report: Report = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Import your own tasks: messages, tools and gold calls, one task a line.

    Bad rows are named with line and reason, the good ones are imported; running it again goes on
    where it stopped. The format: docs/how-to/import.md.

    Example: `etude import jsonl tasks.jsonl --dataset mine --report bad-rows.json`
    """
    target = Target(dataset or name_of(file), url, key, report, as_json)
    with failure_in_one_line():
        reading = Reading(file, How(Shape.TASK, held_out_share=held_out, as_given=False))
        code = _import(reading, target, limit)
    raise typer.Exit(code)


def _import(reading: Reading, target: Target, limit: int | None) -> int:
    """Import the rows of a file; the exit code."""
    is_told = reading.how.shape is not None
    source = Source(
        str(reading.path),
        reading.count,
        rows=lambda: reading,
        shape=lambda: None if is_told else reading.shape,
    )
    return run_import(source, target, limit=limit)


def _columns(text: str | None) -> dict[str, Column] | None:
    return None if text is None else parse_columns(text)
