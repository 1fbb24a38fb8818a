"""`etude import`: the command line over the converters. Mounted by the sampler's `etude` program.

Exit codes: 0 all rows imported, 1 some refused (the good ones are imported), 2 nothing could be
done, said in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from etude_client import EtudeClient, EtudeError
from etude_client.sources.files import count_rows, file_rows
from etude_client.sources.upload import Summary, upload
from etude_proto.rows.bfcl import SINGLE_TURN, Category
from etude_proto.rows.jsonl import jsonl_task
from etude_proto.rows.rlla import rlla_task
from etude_proto.rows.stream import DatasetUnusable, RowStream
from etude_proto.rows.xlam import xlam_task
from etude_proto.split import DEFAULT_HELD_OUT_SHARE
from etude_proto.v1 import DatasetCreate

from ..cli_options import DEFAULT_URL, AsJson, Key, Url, fail, say_json
from .bfcl import bfcl_rows, count_bfcl_rows, installed_data
from .report import fault_lines, report_document, summary_lines, write_report

MAX_FAILURE = 400
"""Longest failure that is said, in characters; an answer of a server may be long."""

ALL_GOOD, SOME_REFUSED, FAILED = 0, 1, 2

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
File = Annotated[Path, typer.Argument(help="JSON lines or Parquet.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Target:
    """Where an import goes, and what is said about it."""

    dataset: str
    url: str
    api_key: str | None
    report: Path | None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where an import comes from."""

    name: str
    """For messages."""
    count: Callable[[], int | None]
    """An upper bound of the rows; None: not known."""
    rows: Callable[[], RowStream]


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
    with _failure_in_one_line():
        folder = data or installed_data()
        source = Source(
            "BFCL",
            lambda: count_bfcl_rows(folder, categories),
            lambda: bfcl_rows(folder, categories, held_out_share=held_out),
        )
        code = run_import(source, Target(dataset or "bfcl", url, key, report, as_json), limit=limit)
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
    """Import ToolRL's rows (`prompt`, `reward_model.ground_truth`), JSON lines or Parquet.

    Example: `etude import rlla train.parquet --dataset toolrl`
    """
    target = Target(dataset or file.stem, url, key, report, as_json)
    convert = partial(rlla_task, held_out_share=held_out)
    _import_file(file, lambda: file_rows(file, convert), target, limit)


def xlam(
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
    """Import rows of xLAM's shape (`query`, `tools`, `answers`), JSON lines or Parquet.

    APIGen's and Hammer's sets have it too; a row without answers expects that no tool is called.

    Example: `etude import xlam xlam.jsonl --dataset xlam --limit 1000`
    """
    target = Target(dataset or file.stem, url, key, report, as_json)
    convert = partial(xlam_task, held_out_share=held_out)
    _import_file(file, lambda: file_rows(file, convert), target, limit)


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
    target = Target(dataset or file.stem, url, key, report, as_json)
    convert = partial(jsonl_task, held_out_share=held_out)
    _import_file(file, lambda: file_rows(file, convert), target, limit)


def _import_file(
    file: Path, rows: Callable[[], RowStream], target: Target, limit: int | None
) -> None:
    """Import the rows of a file, and end the command."""
    with _failure_in_one_line():
        code = run_import(Source(str(file), lambda: count_rows(file), rows), target, limit=limit)
    raise typer.Exit(code)


def run_import(source: Source, target: Target, *, limit: int | None = None) -> int:
    """Send the source's rows and say what became of them; the exit code.

    Raises:
        DatasetUnusable: the source cannot be read, or has no row.
        EtudeError: the sampler cannot be reached, or refuses.
        OSError: the report cannot be written.
    """
    num_rows = source.count()
    if num_rows == 0:
        raise DatasetUnusable(f"{source.name} has no rows")
    request = _dataset_request(target.dataset)
    if target.report is not None and not target.report.parent.is_dir():
        raise DatasetUnusable(f"no folder {target.report.parent} for the report")
    summary = Summary()
    with _client(target) as client:
        client.livez()  # not retried: a wrong address is told at once
        dataset = client.create_dataset(request)
        rows = islice(source.rows(), limit)
        try:
            with _progress(source.name, _at_most(num_rows, limit)) as on_progress:
                upload(client, dataset.id, rows, summary=summary, on_progress=on_progress)
        except (EtudeError, DatasetUnusable) as error:
            raise DatasetUnusable(_cut_short(error, summary)) from error
        finally:
            if target.report is not None:
                write_report(target.report, dataset, summary)
    for text in fault_lines(summary.faults):
        typer.echo(text, err=True)
    if not summary.num_accepted:
        raise DatasetUnusable(f"{source.name}: none of {summary.num_rows} rows could be imported")
    if target.as_json:
        say_json(report_document(dataset, summary))
    else:
        for text in summary_lines(dataset, summary):
            typer.echo(text)
    return SOME_REFUSED if summary.faults else ALL_GOOD


def _at_most(num_rows: int | None, limit: int | None) -> int | None:
    return limit if num_rows is None else min(num_rows, limit or num_rows)


def _client(target: Target) -> EtudeClient:
    try:
        return EtudeClient(target.url, api_key=target.api_key)
    except ValueError as error:
        raise DatasetUnusable(str(error)) from error


def _dataset_request(name: str) -> DatasetCreate:
    try:
        return DatasetCreate(name=name)
    except ValidationError as error:
        raise DatasetUnusable(
            f"{name!r} cannot name a dataset (letters, digits, space and ._:/-, beginning with a "
            "letter or digit): give --dataset NAME"
        ) from error


def _cut_short(error: Exception, summary: Summary) -> str:
    if not summary.num_accepted:
        return str(error)
    return (
        f"{error}; {summary.num_accepted} rows were imported before, and running the same import "
        "again goes on after them"
    )


@contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[Summary], None]]:
    """A progress bar on the standard error stream, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"importing {name}", total=total)
        yield lambda summary: progress.update(bar, completed=summary.num_rows)
        progress.update(bar, total=progress.tasks[0].completed)


@contextmanager
def _failure_in_one_line() -> Iterator[None]:
    try:
        yield
    except (DatasetUnusable, EtudeError, OSError) as error:
        text = shorten(str(error) or type(error).__name__, MAX_FAILURE, placeholder=" …")
        raise fail(text) from error
